"""What is said between one client and the agent: turns, replies, their record, and the courtesies, wired together.

The client's actions and the frames of the session's log come in; both are handled without waiting.
"""

from collections.abc import Callable

from services.edge.account import Account
from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.pending import Accepted
from services.edge.playout import Playout
from services.edge.presence import Presence
from services.edge.record import Record
from services.edge.replies import Replies
from services.edge.timing import Timings
from services.edge.turns import Turns
from shared.bus.bus import Channel
from shared.bus.session_store import SessionStore
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.prompt import SOUND, prompt, prompt_hash
from shared.protocol.session import ReplyOptions, SessionSettings


class Dialogue:
    """One session's."""

    def __init__(
        self,
        bus: SessionStore,
        channel: Channel,
        session: str,
        settings: Callable[[], SessionSettings],
        timings: Timings,
        account: Account,
        new_playout: Callable[[], Playout],
        publish: Callable[[Frame], None],
        emit: Callable[[ev.Event], None],
        close: Callable[[int, str], None],
    ) -> None:
        """`publish` is for what the client does, and does nothing before the session has started."""
        self.record = Record(bus, session)
        self.replies = Replies(
            bus, channel, session, self.record, timings, account, emit, new_playout, self._basis, self._quiet
        )
        self.turns = Turns(self.replies, self.record, timings, account, settings, emit, publish)
        self.presence = Presence(settings, self._is_silent, publish, emit, close)
        self._settings, self._publish, self._emit = settings, publish, emit

    def end(self, reason: str) -> None:
        """The session is over."""
        self.presence.end()
        self.turns.close()
        self.replies.end(reason)

    # -- the client's side ------------------------------------------------------------------------

    def do(self, action: act.Action) -> None:
        """What the client does in the conversation."""
        match action:
            case act.Stop():
                self._publish(fr.InputCommitted(ReplyOptions(wants_reply=self._settings().create_reply)))
            case act.Say(text, options):
                if self.replies.yields:
                    self.replies.interrupt("text", self.turns.turn)
                self.presence.heard()
                self._publish(fr.TextTyped(text, options))
            case act.Commit(options):
                self.turns.client_commits()
                self._publish(fr.InputCommitted(options))
            case act.Clear():
                self._publish(fr.InputCleared())
            case act.RequestReply():
                self.turns.request(action)
            case act.CancelReply():
                self.turns.cancel()
            case act.Played(turn, ms):
                self.replies.delivery.played(turn, ms)
            case act.SetHistory():
                self.record.edit(action, self.turns.turn)
            case act.Truncate(turn, ms):
                self.replies.delivery.truncate(turn, ms)
            case act.GetHistory():
                self._emit(ev.Said(tuple(self.record.messages())))
            case act.Reset():
                self.turns.cancel()
                self._publish(fr.InputCleared())
                self.record.clear()
            case _:
                raise TypeError(f"no such action: {action!r}")

    # -- the log's side ---------------------------------------------------------------------------

    def handle(self, frame: Frame, fence: int, at_ms: int) -> None:
        """The next frame of the log; `at_ms` is the broker's clock. Raises TypeError for one that does not belong there."""
        match frame:
            case (
                fr.VoiceChunk() | fr.ReplyDelta() | fr.ReplySentence() | fr.VoiceDone() | fr.ToolCalled() | fr.ReplyDone()
                | fr.ReplyStarted()
            ):  # fmt: skip
                self.replies.handle(frame, fence, at_ms)
            case fr.SessionStarted() | fr.SessionEnded() | fr.TurnInterrupted() | fr.PlayedOut():
                pass  # our own
            case (
                fr.SpeechStarted() | fr.SpeechPaused() | fr.SpeechResumed() | fr.TurnCommitted() | fr.TurnDiscarded()
                | fr.TranscriptPartial() | fr.TranscriptFinal() | fr.TurnAudioReady() | fr.StageFailed()
            ):  # fmt: skip
                self.turns.handle(frame, at_ms)
                if type(frame) is fr.TurnCommitted and frame.end > frame.start:
                    self.presence.heard()
                if type(frame) is fr.TurnDiscarded and self._is_silent():
                    self.presence.quiet()
            case _:
                raise TypeError(f"{type(frame).__name__} does not belong into a log")

    def _basis(self, turn: Accepted) -> int:
        """Checksum of what the chat model would be told now."""
        text = turn.text if turn.sound is None else SOUND
        messages = prompt(self._settings(), turn.options, self.record.messages(), turn.turn, text)
        return prompt_hash(self._settings(), turn.options, messages)

    def _is_silent(self) -> bool:
        return not self.turns.open and not self.replies.live

    def _quiet(self) -> None:
        """All was said that was to be said."""
        if not self.turns.open:
            self.presence.quiet()
