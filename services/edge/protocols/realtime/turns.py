"""The server events of a running session, and which turn belongs to which item and which response.

Pure. `Turns` owns the open response and the response that the client requested; `SpokenTurns` owns the spoken turns.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.edge.client import events as ev
from services.edge.protocols.realtime.items import Conversation
from services.edge.protocols.realtime.reply import Reply, Request
from services.edge.protocols.realtime.session import SessionObject
from services.edge.protocols.realtime.spoken_turns import SpokenTurns
from services.edge.protocols.realtime.wire import PCM_RATE_HZ, Refused, Wire
from shared.protocol.session import ToolCall

_COUNTERS = ("rate_hz", "_last_spoken", "_awaited", "_given_up", "_over", "_held", "_commits", "_responses")


class Turns:
    """The turns of one connection."""

    def __init__(self, wire: Wire, session: SessionObject, conversation: Conversation) -> None:
        self._wire = wire
        self._session = session
        self._conversation = conversation
        self.rate_hz = PCM_RATE_HZ
        self._spoken = SpokenTurns(wire, session, conversation)
        self._last_spoken = 0
        self._open: Reply | None = None
        self._awaited = 0  # the newest turn whose reply the session makes without a request
        self._request: Request | None = None
        self._given_up = 0  # requests cancelled before the session gave them a turn
        self._failure: ev.Failed | None = None  # of a turn whose reply tells of it, and has not begun
        self._over = 0  # the replies of turns up to this one are over: no more events about them
        self._held = 0  # the turn whose reply is paused; its response is done
        self._commits = 0  # manual turns whose outcome the session has not reported
        self._responses = 0  # made so far

    # -- resuming -----------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """The state while no response is open."""
        request = None if self._request is None else asdict(self._request)
        return {
            "counters": [getattr(self, name) for name in _COUNTERS],
            "request": request,
            "spoken": self._spoken.save(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        for name, value in zip(_COUNTERS, saved["counters"], strict=True):
            setattr(self, name, value)
        self._request = None if saved["request"] is None else Request(**saved["request"])
        self._spoken.restore(saved["spoken"])

    # -- what the client requests -------------------------------------------------------------------------------

    @property
    def speaking(self) -> bool:
        """Whether the client was sent a `speech_started` for a turn that is not over."""
        return self._spoken.speaking

    def committed_by_client(self) -> None:
        """The client ended a turn: the next turn that the session reports is that one, even if it is empty."""
        self._commits += 1

    def request(self, request: Request) -> None:
        """The client requests a reply.

        Raises:
            Refused: a reply is open or requested already.
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
        """The client cancels the reply: a requested one ends now, one that has begun with the session's `ReplyEnded`.

        Raises:
            Refused: no reply is open or requested, or it has another id.
        """
        if self._open is not None and response_id in (None, self._open.id):
            return []
        if self._held:
            self._over, self._held = max(self._over, self._held), 0
            return []
        if self._open is None and response_id is None:
            if self._request is not None:
                self._given_up += self._request.turn is None
                return self._give_up("cancelled")
            if self._awaited > self._over:
                self._over = self._awaited
                return []
        raise Refused("Cancellation failed: no active response found", "response_cancel_not_active")

    # -- what the session reports -------------------------------------------------------------------------------

    def encode(self, event: ev.Event) -> list[str]:
        match event:
            case ev.ReplyAudio() | ev.ReplyText():
                return self._content(event)
            case ev.SpeechBegan(turn, onset_ms):
                return self._spoken.began(turn, onset_ms)
            case ev.SpeechEnded(turn, end_ms, final):
                return self._spoken.ended(turn, end_ms) if final else []
            case ev.TurnBegan():
                return self._turn_began(event)
            case ev.TurnDropped(turn):
                return self._turn_dropped(turn)
            case ev.Transcribed(turn, text, final):
                return self._spoken.transcribed(turn, text, final)
            case ev.ReplyBegan(turn):
                return self._reply_began(turn)
            case ev.ReplyEnded():
                return self._reply_ended(event)
            case ev.Pause(turn):
                return self._paused(turn)
            case ev.Resume():
                return self._resumed(event)
            case ev.Interrupt():
                self._held = 0
                return []
            case ev.IdlePassed(since_ms, until_ms):
                span = {"audio_start_ms": since_ms, "audio_end_ms": until_ms}
                item_id = self._wire.id_of("item", f"idle {since_ms}")
                return [self._wire.event("input_audio_buffer.timeout_triggered", item_id=item_id, **span)]
            case ev.Failed():
                return self._failed(event)
            case _:
                return []

    # -- turns --------------------------------------------------------------------------------------------------

    def _turn_began(self, event: ev.TurnBegan) -> list[str]:
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
        self._commits = max(0, self._commits - 1)
        return self._spoken.committed(turn, event.spoken_ms)

    def _turn_dropped(self, turn: int) -> list[str]:
        if self._request is not None and self._request.turn == turn:
            return self._give_up("failed")
        if self._commits:  # a turn that the client ended is a turn even if it is empty
            self._commits -= 1
            return [*self._spoken.committed(turn, 0), *self._spoken.transcribed(turn, "", final=True)]
        return self._spoken.dropped(turn)

    # -- replies ------------------------------------------------------------------------------------------------

    def _reply(self, turn: int, request: Request, from_ms: int = 0) -> Reply:
        speech_ms = self._spoken.take_speech_ms()
        self._responses += 1
        return Reply(
            self._wire,
            self._session,
            self._conversation,
            self._responses,
            turn,
            request,
            speech_ms,
            self.rate_hz,
            from_ms,
        )

    def _reply_began(self, turn: int) -> list[str]:
        if turn <= self._over:
            return []
        events = [] if self._open is None else self._end(self._open, "interrupted", "")
        request = self._request
        if request is not None and request.turn is not None and request.turn < turn:
            events += self._give_up("interrupted")
            request = None
        if request is None or (turn <= self._last_spoken if request.turn is None else request.turn != turn):
            request = Request()
        else:
            self._request = None
        self._open = self._reply(turn, request)
        if self._failure is not None and self._failure.turn == turn:
            self._open.failure, self._failure = self._failure, None
        return events + self._open.created()

    def _paused(self, turn: int) -> list[str]:
        """The person speaks into the reply: the client drops its audio and expects the response to be cancelled."""
        self._held = turn
        if self._open is None or self._open.turn != turn:
            return []
        reply, self._open = self._open, None
        return reply.done("interrupted", "")

    def _resumed(self, event: ev.Resume) -> list[str]:
        """A false interruption: the rest of the reply becomes a new response, as clients cannot resume the old one."""
        if self._held != event.turn:
            return []
        self._held = 0
        self._open = self._reply(event.turn, Request(), event.from_ms)
        return self._open.created() + self._open.text(event.text)

    def _content(self, event: ev.ReplyAudio | ev.ReplyText) -> list[str]:
        if self._open is None or self._open.turn != event.turn:
            return []
        if isinstance(event, ev.ReplyAudio):
            return self._open.audio(event.pcm, event.offset)
        return self._open.text(event.text)

    def _reply_ended(self, event: ev.ReplyEnded) -> list[str]:
        self._held = 0
        if self._open is not None and self._open.turn == event.turn:
            return self._end(self._open, event.status, event.text, event.calls, event.reason)
        if self._request is not None and self._request.turn == event.turn:
            return self._give_up(event.status)
        self._over = max(self._over, event.turn)
        return []

    def _end(self, reply: Reply, status: str, text: str, calls: Sequence[ToolCall] = (), reason: str = "") -> list[str]:
        self._open = None
        self._over = max(self._over, reply.turn)
        return reply.done(status, text, calls, reason)

    def _give_up(self, status: str, failure: ev.Failed | None = None) -> list[str]:
        """The requested reply ends before it began; the client still waits for `response.created` and `.done`."""
        request, self._request = self._request or Request(), None
        return self._unmade(request.turn or 0, request, status, failure)

    def _unmade(self, turn: int, request: Request, status: str, failure: ev.Failed | None) -> list[str]:
        reply = self._reply(turn, request)
        reply.failure = failure
        self._over = max(self._over, turn)
        return reply.created() + reply.done(status, "")

    def _failed(self, event: ev.Failed) -> list[str]:
        """Report a failure in its response or transcript, not as an `error`: some clients end their session at one."""
        turn = event.turn
        if turn and self._open is not None and turn == self._open.turn:
            self._open.failure = event
            return []
        if event.in_reply:
            self._failure = event
            return self._spoken.failed(turn, event.code, event.message)
        if turn and self._request is not None and turn == self._request.turn:
            return self._give_up("failed", event)
        if event.code == "too_many" and self._request is not None and self._request.turn is None:
            return self._give_up("failed", event)  # the newest request was dropped: the client waits for its response
        events = self._spoken.failed(turn, event.code, event.message)
        if turn and turn == self._awaited and turn > self._over:
            return events + self._unmade(turn, Request(), "failed", event)
        if events or (turn and turn <= self._over):
            self._over = max(self._over, turn)
            return events
        return [self._wire.error(event.message, event.code, kind="server_error")]
