"""A Realtime session that can be resumed after a lost connection: Parley's extension, for clients that ask for it. Pure."""

import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, TypeAdapter

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.client.codec import Journal
from services.edge.protocols.fields import BadField, checked, text
from services.edge.protocols.realtime.codec import Answer, RealtimeCodec, parsed
from services.edge.protocols.realtime.event_ids import NumberedWire, place_of
from services.edge.protocols.realtime.wire import NewId, Refused, random_id
from shared.protocol.session import SessionSettings

Resume = Literal["allow", "now"]
"""What a client asks for in the query of its address: a session that can be resumed, or to resume one on this connection."""

RESUME = "parley.session.resume"
MAX_RECORDED = 16 * 1024 * 1024
"""Characters of the client's events without audio that one session keeps, as many as its items may have bytes."""
MAX_TOKEN = 200
"""Characters of a resume token."""


class ResumeEvent(BaseModel):
    """Go on with the session that the token belongs to, after the event with this id."""

    type: Literal["parley.session.resume"]
    token: Annotated[str, text(MAX_TOKEN)]
    last_event_id: Annotated[str, text(64)]


_RESUME_EVENT = TypeAdapter(ResumeEvent)


class ResumableCodec(RealtimeCodec):
    """One `/v1/realtime` connection with `resume` in its query.

    The items, the session object and what the client asked for are saved with each resume point. What followed is made again:
    from the session's events, and from the client's own, which the journal keeps.
    """

    resumes_at_hz = None

    def __init__(
        self, defaults: SessionSettings, model: str, new_id: NewId = random_id, *, resume: Resume, **options: Any
    ) -> None:
        """`options`: see `RealtimeCodec`."""
        self._numbered = NumberedWire(new_id)
        super().__init__(defaults, model, new_id, wire=self._numbered, **options)
        self._asked = False
        self._recorded = 0
        if resume == "now":
            self.starts_with = None

    @property
    def resumable(self) -> "ResumableCodec":
        return self

    def number(self, journal: Journal) -> None:
        self._numbered.journal = journal

    # -- client events ------------------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> Sequence[act.Action]:
        if self._numbered.journal is not None or self.starts_with is not None:
            return super().decode(message)
        body: dict[str, Any] = {}
        try:
            body = parsed(message)
            return self._resume(body)
        except (Refused, BadField) as error:
            return (act.Send((self._error(error, body),)),)

    def _resume(self, body: dict[str, Any]) -> Sequence[act.Action]:
        """The client's first event on this connection says which session it resumes."""
        if self._asked:
            raise Refused("Wait for 'parley.session.resumed'.", "not_resumed")
        if body.get("type") != RESUME:
            raise Refused(f"Expected '{RESUME}': the query says resume=now.", "not_resumed")
        event = checked(_RESUME_EVENT, body)
        place = place_of(event.last_event_id)
        if place is None:
            raise BadField.of("last_event_id", event.last_event_id, "the id of an event of the session")
        self._asked, self._numbered.place = True, place
        message = "The session cannot be resumed: it is gone, or the token is not its own."
        gone = self._wire.error(message, "session_not_found", param="token")
        return (act.Resume(event.token, *place, (act.Send((gone,)), act.Close(1008, message))),)

    def _answer(self, body: dict[str, Any], message: str | bytes) -> Answer:
        if self._numbered.journal is not None and isinstance(message, str):
            self._recorded += len(message)
            if self._recorded > MAX_RECORDED:
                full = Refused(f"More than {MAX_RECORDED} characters of events in one session.", "conversation_full")
                return [self._error(full, body)]
            self._wire.message = self._numbered.journal.received(message)
        return super()._answer(body, message)

    def replay(self, number: int, message: str) -> list[str]:
        self._wire.message = number
        answer = super()._answer(parsed(message), message)
        return [part for part in answer if part and isinstance(part, str)]

    # -- server events ------------------------------------------------------------------------------------------

    def _ready(self, ready: ev.Ready) -> list[str]:
        offer = {"token": ready.resume_token, "expires_s": ready.resume_s}
        if ready.resumed:
            self._identity["id"] = ready.session_id
            return [self._numbered.unnumbered("parley.session.resumed", **offer)]
        created, *waiting = super()._ready(ready)
        resumable = [self._wire.event("parley.session.resumable", **offer)] if ready.resume_token else []
        return [created, *resumable, *waiting]

    # -- the state at a resume point ----------------------------------------------------------------------------

    def save(self) -> bytes:
        state = {
            "seed": self._numbered.seed,
            "identity": self._identity,
            "rate_hz": self.rate_hz,
            "rate_fixed": self._rate_fixed,
            "recorded": self._recorded,
            "session": self._session.save(),
            "conversation": self._conversation.save(),
            "turns": self._turns.save(),
        }
        return zlib.compress(orjson.dumps(state), level=1)

    def resume(self, settings: SessionSettings, saved: bytes) -> None:
        state = orjson.loads(zlib.decompress(saved))
        self._numbered.seed, self._identity, self.rate_hz = state["seed"], state["identity"], state["rate_hz"]
        self._recorded = state["recorded"]
        self._session.restore(settings, state["session"])
        self._conversation.restore(state["conversation"])
        self._turns.restore(state["turns"])
        if state["rate_fixed"]:
            self._fix_rate()
        self._buffered = self.rate_hz  # a manual turn may have begun before
        self._until_ready = None
