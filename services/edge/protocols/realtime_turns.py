"""Which turn is which item and which response: what a Realtime client is told while a session goes on.

Pure. It owns the user items of spoken turns, the reply that is open, and the reply that the client asked for.
"""

from dataclasses import dataclass
from typing import Any

from services.edge.events import (
    Event,
    Failed,
    Heard,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    SpeechBegan,
    SpeechEnded,
    TurnBegan,
    TurnDropped,
)
from services.edge.history import user_key
from services.edge.protocols.realtime_items import Conversation, Entry
from services.edge.protocols.realtime_reply import Failure, Reply, Request
from services.edge.protocols.realtime_session import SessionObject
from services.edge.protocols.realtime_wire import PCM_RATE_HZ, Refused, Wire

KEPT_TURNS = 32
"""Turns whose transcript may still come."""


@dataclass(slots=True)
class Spoken:
    """What the person says in one turn."""

    item_id: str
    onset_ms: int = 0
    spoken_ms: int = 0
    announced: bool = False
    """`speech_started` was sent."""
    stopped: bool = False
    entry: Entry | None = None
    """Its item, once the turn is over."""
    sent: str = ""
    """The part of the transcript that was sent as deltas."""
    early: str | None = None
    """The final transcript, where it came before the turn's end was told."""


class Turns:
    """The turns of one connection."""

    def __init__(self, wire: Wire, session: SessionObject, conversation: Conversation) -> None:
        self._wire = wire
        self._session = session
        self._conversation = conversation
        self._conversation_id = wire.new_id("conv")
        self.rate_hz = PCM_RATE_HZ
        self._spoken: dict[int, Spoken] = {}
        self._last_spoken = 0
        self._heard_ms = 0
        self._open: Reply | None = None
        self._awaited = 0  # the turn whose reply comes without being asked for
        self._request: Request | None = None
        self._given_up = 0  # requests that were cancelled before the session gave them a turn
        self._over = 0  # nothing more is told of replies up to this turn's
        self._commits = 0

    # -- what the client asks for -------------------------------------------------------------------------------

    def committed_by_client(self) -> None:
        """The next turn that the session tells of is one that the client ended, whatever was in it."""
        self._commits += 1

    def request(self, request: Request) -> None:
        """The client wants a reply.

        Raises:
            Refused: there is one already.
        """
        if self._open is not None or self._request is not None:
            running = f": {self._open.id}" if self._open is not None else ""
            raise Refused(
                f"Conversation already has an active response in progress{running}. "
                "Wait until the response is finished before creating a new one.",
                "conversation_already_has_active_response",
            )
        self._request = request

    def cancel(self, response_id: Any) -> list[str]:
        """The client wants the reply to end: nothing to say yet, unless it had not begun.

        Raises:
            Refused: there is none.
        """
        if self._open is not None and response_id in (None, self._open.id):
            return []
        if self._open is None and response_id is None:
            if self._request is not None:
                self._given_up += self._request.turn is None
                return self._give_up("cancelled")
            if self._awaited > self._over:
                self._over = self._awaited
                return []
        raise Refused("Cancellation failed: no active response found", "response_cancel_not_active")

    # -- what the session tells ---------------------------------------------------------------------------------

    def tell(self, event: Event) -> list[str]:
        """The server events for an event of the session."""
        match event:
            case ReplyAudio() | ReplyText():
                return self._content(event)
            case SpeechBegan(turn, onset_ms):
                return self._speech_began(turn, onset_ms)
            case SpeechEnded(turn, end_ms, final):
                return self._speech_ended(turn, end_ms) if final else []
            case TurnBegan():
                return self._turn_began(event)
            case TurnDropped(turn):
                return self._turn_dropped(turn)
            case Heard(turn, text, final):
                return self._heard(turn, text, final)
            case ReplyBegan(turn):
                return self._reply_began(turn)
            case ReplyEnded():
                return self._reply_ended(event)
            case Failed():
                return self._failed(event)
            case _:
                return []

    # -- speech -------------------------------------------------------------------------------------------------

    def _turn(self, turn: int) -> Spoken:
        spoken = self._spoken.get(turn)
        if spoken is None:
            spoken = self._spoken[turn] = Spoken(self._wire.new_id("item"))
            if len(self._spoken) > KEPT_TURNS:
                del self._spoken[min(self._spoken)]
        return spoken

    def _speech_began(self, turn: int, onset_ms: int) -> list[str]:
        spoken = self._turn(turn)
        if spoken.announced or not self._session.detects_turns:
            return []
        spoken.announced, spoken.onset_ms = True, onset_ms
        return [self._wire.event("input_audio_buffer.speech_started", item_id=spoken.item_id, audio_start_ms=onset_ms)]

    def _speech_ended(self, turn: int, end_ms: int) -> list[str]:
        spoken = self._spoken.get(turn)
        if spoken is None or spoken.stopped or not spoken.announced:
            return []
        spoken.stopped = True
        return [self._wire.event("input_audio_buffer.speech_stopped", item_id=spoken.item_id, audio_end_ms=end_ms)]

    def _turn_began(self, event: TurnBegan) -> list[str]:
        turn = event.turn
        if not event.spoken_ms and turn not in self._spoken and (event.wants_reply or not self._commits):
            if self._given_up:
                self._given_up -= 1
                self._over = max(self._over, turn)
            elif self._request is not None and self._request.turn is None:
                self._request.turn = turn
            return []
        self._last_spoken = turn
        if event.wants_reply:
            self._awaited = turn
        return self._committed(turn, event.spoken_ms)

    def _committed(self, turn: int, spoken_ms: int) -> list[str]:
        self._commits = max(0, self._commits - 1)
        spoken = self._turn(turn)
        if spoken.entry is not None:
            return []
        spoken.spoken_ms = spoken_ms
        self._heard_ms += spoken_ms
        stopped = self._speech_ended(turn, spoken.onset_ms + spoken_ms)
        item = {
            "id": spoken.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            # Without the key some clients fail to read the item.
            "content": [{"type": "input_audio", "transcript": None}],
        }
        spoken.entry = Entry(item, user_key(turn))
        before = self._conversation.append(spoken.entry)
        return [
            *stopped,
            self._wire.event("input_audio_buffer.committed", item_id=spoken.item_id, previous_item_id=before),
            self._wire.event("conversation.item.added", previous_item_id=before, item=item),
            self._wire.event("conversation.item.done", previous_item_id=before, item=item),
            *([] if spoken.early is None else self._heard(turn, spoken.early, final=True)),
        ]

    def _turn_dropped(self, turn: int) -> list[str]:
        if self._request is not None and self._request.turn == turn:
            return self._give_up("failed")
        if self._commits:  # the client's turn is a turn, also when there was nothing in it
            return [*self._committed(turn, 0), *self._heard(turn, "", final=True)]
        spoken = self._spoken.get(turn)
        stopped = [] if spoken is None else self._speech_ended(turn, spoken.onset_ms)
        self._spoken.pop(turn, None)
        return stopped

    def _heard(self, turn: int, text: str, final: bool) -> list[str]:
        spoken = self._spoken.get(turn)
        if spoken is None:
            return []
        if spoken.entry is None:
            spoken.early = text if final else None
            return []
        if not self._session.transcribes:
            if final:
                del self._spoken[turn]
            return []
        part = {"item_id": spoken.item_id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        told = []
        # A delta cannot be taken back: what the recogniser changed its mind about is told by `completed` alone.
        if len(text) > len(spoken.sent) and text.startswith(spoken.sent):
            told.append(self._wire.event(f"{kind}.delta", **part, delta=text[len(spoken.sent) :]))
            spoken.sent = text
        if final:
            del self._spoken[turn]
            content = [{"type": "input_audio", "transcript": text}]
            spoken.entry.item = {**spoken.entry.item, "content": content}
            usage = {"type": "duration", "seconds": spoken.spoken_ms / 1000}
            told.append(self._wire.event(f"{kind}.completed", **part, transcript=text, usage=usage))
        return told

    # -- replies ------------------------------------------------------------------------------------------------

    def _reply(self, turn: int, request: Request) -> Reply:
        heard_ms, self._heard_ms = self._heard_ms, 0
        return Reply(
            self._wire,
            self._session,
            self._conversation,
            self._conversation_id,
            turn,
            request,
            heard_ms,
            self.rate_hz,
        )

    def _reply_began(self, turn: int) -> list[str]:
        if turn <= self._over:
            return []
        told = [] if self._open is None else self._end(self._open, "interrupted", "")
        request = self._request
        if request is not None and request.turn is not None and request.turn < turn:
            told += self._give_up("interrupted")
            request = None
        if request is None or (turn <= self._last_spoken if request.turn is None else request.turn != turn):
            request = Request()
        else:
            self._request = None
        self._open = self._reply(turn, request)
        return told + self._open.created()

    def _content(self, event: ReplyAudio | ReplyText) -> list[str]:
        if self._open is None or self._open.turn != event.turn:
            return []
        return self._open.audio(event.pcm) if isinstance(event, ReplyAudio) else self._open.text(event.text)

    def _reply_ended(self, event: ReplyEnded) -> list[str]:
        if self._open is not None and self._open.turn == event.turn:
            return self._end(self._open, event.status, event.text)
        if self._request is not None and self._request.turn == event.turn:
            return self._give_up(event.status)
        self._over = max(self._over, event.turn)
        return []

    def _end(self, reply: Reply, status: str, text: str) -> list[str]:
        self._open = None
        self._over = max(self._over, reply.turn)
        return reply.done(status, text)

    def _give_up(self, status: str, failure: Failure | None = None) -> list[str]:
        """The reply that the client asked for ends before it began: its client still waits for both events."""
        request, self._request = self._request or Request(), None
        return self._unmade(request.turn or 0, request, status, failure)

    def _unmade(self, turn: int, request: Request, status: str, failure: Failure | None) -> list[str]:
        reply = self._reply(turn, request)
        reply.failure = failure
        self._over = max(self._over, turn)
        return reply.created() + reply.done(status, "")

    def _failed(self, event: Failed) -> list[str]:
        """Told where the client looks for it: an `error` of its own ends the session of some clients."""
        failure, turn = Failure(event.code, event.message), event.turn
        if turn and self._open is not None and turn == self._open.turn:
            self._open.failure = failure
            return []
        if turn and self._request is not None and turn == self._request.turn:
            return self._give_up("failed", failure)
        told = []
        spoken = self._spoken.pop(turn, None)
        if spoken is not None and spoken.entry is not None and self._session.transcribes:
            error = {"type": "server_error", "code": failure.code, "message": failure.message, "param": None}
            kind = "conversation.item.input_audio_transcription.failed"
            told.append(self._wire.event(kind, item_id=spoken.item_id, content_index=0, error=error))
        if turn and turn == self._awaited and turn > self._over:
            return told + self._unmade(turn, Request(), "failed", failure)
        if told or (turn and turn <= self._over):
            self._over = max(self._over, turn)
            return told
        return [self._wire.error(failure.message, failure.code, kind="server_error")]
