"""The replies of a session: which is heard, which waits, and which nobody wants any more.

Those that are being made are `Pending`; the one that is heard is under `Delivery`. What turns there are is the session's
business: a reply may be made for any, and is released only once its turn was accepted.
"""

from collections.abc import Callable
from dataclasses import replace

from services.edge.account import Account
from services.edge.client import events as ev
from services.edge.delivery import Delivery
from services.edge.pending import Accepted, Pending
from services.edge.playout import Playout
from services.edge.record import Record
from services.edge.reply import Reply
from services.edge.timing import Timings
from shared.bus.bus import Channel
from shared.bus.session_store import SessionStore
from shared.observability import metrics
from shared.protocol import frames as fr
from shared.protocol.turns import WHOLE_SESSION, WHOLE_TURN

ReplyFrame = (
    fr.ReplyStarted | fr.VoiceChunk | fr.ReplyDelta | fr.ReplySentence | fr.VoiceDone | fr.ToolCalled | fr.ReplyDone
)


class Replies:
    """One is heard at a time; a newer turn's ends an older one's, or waits for it."""

    def __init__(
        self,
        bus: SessionStore,
        channel: Channel,
        session: str,
        record: Record,
        timings: Timings,
        account: Account,
        emit: Callable[[ev.Event], None],
        new_playout: Callable[[], Playout],
        prompt_hash: Callable[[Accepted], int],
        on_quiet: Callable[[], None],
    ) -> None:
        """`prompt_hash` is the checksum of what the chat model would be told now; `on_quiet` is called when all is played."""
        self.stale = 0
        """Frames dropped because nobody wants them any more."""
        self.interrupted = 0
        self.delivery = Delivery(channel, record, timings, account, emit, self._played)
        self._timings, self._account = timings, account
        self._bus, self._channel, self._session, self._emit = bus, channel, session, emit
        self._basis, self._on_quiet, self._timings = prompt_hash, on_quiet, timings
        self._pending = Pending(new_playout)

    # -- frames -----------------------------------------------------------------------------------

    def handle(self, frame: ReplyFrame, fence: int, at_ms: int) -> None:
        """A frame of a reply, if it is still wanted."""
        reply = self._reply_of(frame.turn, frame.revision)
        if reply is None or reply.failed:
            self.stale += 1
            metrics.dropped.labels("stale").inc()
            return
        match frame:
            case fr.VoiceChunk():
                reply.mark("voice", at_ms)
                late = reply.playout.late
                reply.playout.add(frame, fence)
                if reply.playout.late > late:
                    metrics.dropped.labels("duplicate").inc()
            case fr.VoiceDone():
                reply.playout.sentence_done(frame.sentence, frame.samples)
            case fr.ReplyDelta():
                reply.mark("first_token", at_ms)
                reply.add_text(frame)
            case fr.ReplySentence():
                reply.mark("first_sentence", at_ms)
                reply.sentences[frame.index] = frame.text
            case fr.ToolCalled():
                reply.add_call(frame.call)
            case fr.ReplyDone():
                reply.finish_text(frame)
            case fr.ReplyStarted():
                reply.prompt_hash, reply.voiced = frame.prompt_hash, frame.voiced
        if reply is self.delivery.current:
            self.delivery.send()
        else:
            self._begin_next()

    def fail(self, turn: int, revision: int) -> None:
        """No more comes of this turn's reply."""
        reply = self._reply_of(turn, revision)
        if reply is None or (reply.text_done and reply.playout.whole):  # there is nothing more to come
            return
        reply.failed = True
        reply.playout.cease()
        if reply is self.delivery.current:
            self.delivery.fail()
        else:
            self._begin_next()

    def _reply_of(self, turn: int, revision: int) -> Reply | None:
        """The reply that something belongs to; None if it is stale."""
        current = self.delivery.current
        if current is None or turn > current.turn:
            return self._pending.reply_of(turn, revision)
        wanted = (turn, revision) == (current.turn, current.revision)
        return current if wanted and not self._pending.gate.is_stale(turn, revision) else None

    # -- from made to heard -----------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """A reply is being made, sent or played, or is due."""
        return self._pending.waiting or self.delivery.busy

    @property
    def yields(self) -> bool:
        """The current reply, if there is one, may be cut off by a turn."""
        current = self.delivery.current
        return current is None or current.interruptible or not self.delivery.busy

    def accept(self, turn: Accepted) -> None:
        """This turn is answered as soon as nothing is in the way."""
        self._pending.accept(turn)
        self._begin_next()

    def _begin_next(self) -> None:
        """Release the reply to the oldest turn that waits for one, if it is there and nobody speaks."""
        if self.delivery.held_by or self.delivery.busy or (found := self._pending.first()) is None:
            return
        accepted, reply = found
        if accepted.speculated and (reply.failed or reply.prompt_hash != self._basis(accepted)):
            self._ask_again(accepted)
            return
        self.delivery.retire()
        self._pending.take(reply.turn)
        self._pending.gate.advance(reply.turn, reply.revision)
        reply.interruptible = accepted.interruptible
        if accepted.speculated:
            metrics.speculations.labels("reused").inc()
        self.delivery.begin(reply)

    def _ask_again(self, accepted: Accepted) -> None:
        """What was made answers another conversation than there is now."""
        again = self._pending.again(accepted)
        metrics.speculations.labels("redone").inc()
        self._timings.mark(again.turn, "asked", self._account.now_ms())
        self._outdate(again.turn, again.revision)
        if again.sound is not None:
            self._channel.publish(replace(again.sound, revision=again.revision, options=again.options))
            return
        at, trace = (again.turn, again.revision), self._timings.trace(again.turn)
        self._channel.publish(fr.TranscriptFinal(self._session, *at, again.text, again.options, trace))

    def _played(self) -> None:
        self._begin_next()
        if not self.live:
            self._on_quiet()

    # -- someone speaks into it -------------------------------------------------------------------

    def hold(self, turn: int) -> bool:
        """Someone speaks: silence, until it is known whether these are words. Returns whether there was something to be
        silenced."""
        return self.live and self.yields and self.delivery.hold(turn)

    def resume(self, turn: int) -> None:
        """It was nothing: what this turn's speech held goes on from where it stopped."""
        if turn and self.delivery.held_by == turn:
            self.delivery.resume()
            self._begin_next()

    def supersede(self, turn: int, revision: int) -> None:
        """Earlier revisions of this turn are stale; the reply to the turn before it may still be wanted."""
        if self._outdate(turn, revision):
            metrics.speculations.labels("wasted").inc()

    def _outdate(self, turn: int, revision: int) -> bool:
        """Nothing is made for earlier revisions of this turn any more. Returns whether a reply was in hand for one."""
        self._bus.stop(self._session, turn, revision, only=True)
        return self._pending.supersede(turn, revision)

    def reject(self, turn: int) -> bool:
        """This turn is none, and gets no reply; what it held goes on. Returns whether it waited for one."""
        waited = self._pending.reject(turn)
        self.supersede(turn, WHOLE_TURN)
        self.resume(turn)
        return waited

    def give_up(self, turn: int, *, due: bool) -> None:
        """This turn was not understood. `due`: it was to get a reply."""
        if due:
            self._account.unanswered(turn, "failed")
        self.reject(turn)

    def empty(self, turn: int, *, due: bool) -> None:
        """This turn had no words. `due`: if it was to get a reply, that was not asked for before now."""
        if self.reject(turn) or due:
            self._account.unanswered(turn, "empty")
            self._emit(ev.ReplyEnded(turn, "empty", ""))

    # -- the end ----------------------------------------------------------------------------------

    def interrupt(self, reason: str, turn: int) -> None:
        """Whatever is being prepared or played in reply to turns up to this one is not to be heard any further."""
        status = "cancelled" if reason == "client" else "interrupted"
        self._cut(status, reason)
        waited = self._pending.drop(turn)
        if turn and self._pending.gate.advance(turn + 1):
            self._bus.stop(self._session, turn + 1, 0)
        for number in waited:  # who asked for it is to know that it does not come
            self._account.unanswered(number, status)
            self._emit(ev.ReplyEnded(number, status, ""))

    def end(self, reason: str) -> None:
        """The session is over: `failed` if that was no wish of the client's."""
        status = "failed" if reason == "failed" else "cancelled"
        for number in self._pending.drop(WHOLE_SESSION):
            self._account.unanswered(number, status)
        self._cut(status, reason)
        self.delivery.retire()

    def _cut(self, status: str, reason: str) -> None:
        """The current reply, if any of it is still to be heard, is not to be heard any further."""
        if turn := self.delivery.cut(status, reason):
            self.interrupted += 1
            self._pending.gate.advance(turn + 1)
            self._bus.stop(self._session, turn + 1, 0)
