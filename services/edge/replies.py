"""The replies of a session: which is heard, when it pauses, and what is kept of it.

It owns the current one and its playout; those that are being made are `Pending`. What turns there are is the session's
business: a reply may be made for any, and is released only once its turn was accepted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from services.edge import events as ev
from services.edge.pending import Accepted, Pending
from services.edge.playout import Playout
from services.edge.record import Record
from services.edge.reply import Reply
from services.edge.timing import Timings
from shared import frames as fr
from shared import metrics
from shared.bus import Bus, Channel
from shared.frames import Frame
from shared.session import ToolCall
from shared.turns import WHOLE_SESSION, WHOLE_TURN

Emit = Callable[[ev.Event], None]

ReplyFrame = (
    fr.ReplyStarted | fr.VoiceChunk | fr.ReplyDelta | fr.ReplySentence | fr.VoiceDone | fr.ToolCalled | fr.ReplyDone
)


class Replies:
    """One is heard at a time; a newer turn's ends an older one's, or waits for it."""

    def __init__(
        self,
        bus: Bus,
        channel: Channel,
        session: str,
        record: Record,
        timings: Timings,
        emit: Emit,
        new_playout: Callable[[], Playout],
        basis: Callable[[Accepted], int],
        on_quiet: Callable[[], None],
    ) -> None:
        """`basis` is the checksum of what the chat model would be told now; `on_quiet` is called when all is played."""
        self.stale = 0
        """Frames dropped because nobody wants them any more."""
        self.interrupted = 0
        self._bus, self._channel, self._session = bus, channel, session
        self._record, self._timings, self._emit = record, timings, emit
        self._basis, self._on_quiet = basis, on_quiet
        self._loop = asyncio.get_running_loop()
        self._pending = Pending(new_playout)
        self._held_by = 0
        self._current: Reply | None = None
        self._past: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

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
                reply.playout.add(frame, fence)
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
                reply.basis, reply.voiced = frame.basis, frame.voiced
        if reply is self._current:
            self._release(reply, at_ms)
        else:
            self._begin_next(at_ms)

    def fail(self, turn: int, revision: int) -> None:
        """No more comes of this turn's reply."""
        reply = self._reply_of(turn, revision)
        if reply is None:
            return
        reply.failed = True
        reply.playout.cease()
        if reply is self._current:
            self._finish(reply, "failed")
            self._wait(reply)
        else:
            self._begin_next(0)

    def _reply_of(self, turn: int, revision: int) -> Reply | None:
        """The reply that something belongs to; None if it is stale."""
        current = self._current
        if current is None or turn > current.turn:
            return self._pending.reply_of(turn, revision)
        wanted = (turn, revision) == (current.turn, current.revision)
        return current if wanted and not self._pending.gate.is_stale(turn, revision) else None

    # -- from made to heard -----------------------------------------------------------------------

    def accept(self, turn: Accepted, at_ms: int) -> None:
        """This turn is answered as soon as nothing is in the way."""
        self._pending.accept(turn)
        self._begin_next(at_ms)

    def _begin_next(self, at_ms: int) -> None:
        """Release the reply to the oldest turn that waits for one, if it is there and nobody speaks."""
        if self._held_by or self._busy or (found := self._pending.first()) is None:
            return
        accepted, reply = found
        if accepted.speculated and (reply.failed or reply.basis != self._basis(accepted)):
            self._ask_again(accepted)
            return
        self._retire()
        self._pending.take(reply.turn)
        self._pending.gate.advance(reply.turn, reply.revision)
        self._current = reply
        reply.interruptible = accepted.interruptible
        if accepted.speculated:
            metrics.speculations.labels("reused").inc()
        for name, marked_ms in reply.marks.items():
            self._timings.mark(reply.turn, name, marked_ms)
        self._emit(ev.ReplyBegan(reply.turn))
        if reply.failed:
            self._finish(reply, "failed")
        self._release(reply, at_ms)

    def _ask_again(self, accepted: Accepted) -> None:
        """What was made answers another conversation than there is now."""
        again = self._pending.again(accepted)
        metrics.speculations.labels("redone").inc()
        self.supersede(again.turn, again.revision)
        if again.sound is not None:
            self._channel.publish(replace(again.sound, revision=again.revision, options=again.options))
            return
        self._channel.publish(fr.TranscriptFinal(self._session, again.turn, again.revision, again.text, again.options))

    def _release(self, reply: Reply, at_ms: int) -> None:
        """Send what there is of the current reply, unless it is to be silent."""
        if self._held_by:
            return
        if not reply.ended and (text := reply.untold()):
            self._emit(ev.ReplyText(reply.turn, text))
        now_s = self._loop.time()
        offset = reply.playout.sent
        for pcm in reply.playout.release(now_s):
            self._emit(ev.ReplyAudio(reply.turn, offset, pcm))
            offset += len(pcm) // 2
        if at_ms:
            for name, marked_ms in reply.marks.items():
                self._timings.mark(reply.turn, name, marked_ms)
            if offset and self._timings.mark(reply.turn, "first_audio", at_ms):
                marks = self._timings.marks(reply.turn)
                metrics.turn_latency.observe(max(0.0, marks["first_audio"] / 1000))
                self._emit(ev.Timing(reply.turn, marks))
        if reply.complete:
            self._finish(reply, "completed")
        self._wait(reply)

    def _wait(self, reply: Reply) -> None:
        """Look after the current reply again when more of it can be sent, or when it was played."""
        if self._timer is not None:
            return
        now_s = self._loop.time()
        wait_s = reply.playout.wait_s(now_s)
        if wait_s is None and reply.ended:
            wait_s = max(0.0, reply.playout.left_s(now_s)) + 0.001
        if wait_s is not None:
            self._timer = self._loop.call_later(wait_s, self._look, reply)

    def _look(self, reply: Reply) -> None:
        self._timer = None
        if reply is not self._current or reply.playout.paused:
            return
        if reply.playing(self._loop.time()):
            self._release(reply, 0)
            return
        self._retire()
        self._begin_next(0)
        if not self.live:
            self._on_quiet()

    # -- someone speaks into it -------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return self._current is not None and self._current.playing(self._loop.time())

    @property
    def live(self) -> bool:
        """A reply is being made, sent or played, or is due."""
        return self._pending.waiting or self._busy

    @property
    def yields(self) -> bool:
        """The current reply, if there is one, may be cut off by a turn."""
        return self._current is None or self._current.interruptible or not self._busy

    def begun_s(self) -> float | None:
        """For how long the current reply has been playing; None if none is."""
        if self._current is None or not self._busy:
            return None
        began_s = self._current.playout.began_s
        return None if began_s is None else self._loop.time() - began_s

    def left_s(self) -> float | None:
        """How much of the current reply is still to be heard; None if there is none, or its end is not known."""
        reply = self._current
        if reply is None or not (self._busy and reply.text_done and reply.playout.whole):
            return None
        return (reply.playout.there - reply.playout.heard(self._loop.time())) / reply.playout.rate_hz

    def hold(self, turn: int) -> None:
        """Someone speaks: silence, until it is known whether these are words. Silence first, then the bookkeeping."""
        if not self.live or not self.yields:
            return
        self._held_by = turn
        reply = self._current
        if reply is None or not self._busy or reply.playout.paused:
            return
        now_s = self._loop.time()
        reply.playout.pause(now_s)
        heard = reply.playout.heard(now_s)
        if reply.playout.sent > heard or not reply.ended:
            reply.told_paused = True
            self._emit(ev.Pause(reply.turn, self._ms(reply, heard)))
        if reply.playout.sent:
            self._record.heard(reply, heard)

    @property
    def held_by(self) -> int:
        """The turn whose speech holds the reply; 0: none."""
        return self._held_by

    def resume(self, turn: int) -> None:
        """It was nothing: what this turn's speech held goes on from where it stopped."""
        if not turn or self._held_by != turn:
            return
        self._held_by = 0
        reply = self._current
        if reply is not None and reply.playout.paused:
            now_s = self._loop.time()
            heard = reply.playout.heard(now_s)
            text = reply.told_after(heard)
            reply.playout.resume(now_s)
            if reply.ended:
                self._record.heard(reply, reply.playout.there)
            else:
                self._record.forget(reply)
            reply.ended = reply.ended and reply.playout.complete  # what is sent again ends again
            if reply.told_paused:
                reply.told_paused = False
                metrics.resumes.inc()
                self._emit(ev.Resume(reply.turn, self._ms(reply, heard), text))
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._release(reply, 0)
        self._begin_next(0)

    def supersede(self, turn: int, revision: int) -> None:
        """Earlier revisions of this turn are stale; the reply to the turn before it may still be wanted."""
        if self._pending.supersede(turn, revision):
            metrics.speculations.labels("wasted").inc()
        self._bus.stop(self._session, turn, revision, only=True)

    def reject(self, turn: int) -> None:
        """This turn is none, and gets no reply; what it held goes on."""
        self._pending.reject(turn)
        self.supersede(turn, WHOLE_TURN)
        self.resume(turn)

    # -- the end ----------------------------------------------------------------------------------

    def interrupt(self, reason: str, turn: int) -> None:
        """Whatever is being prepared or played in reply to turns up to this one is not to be heard any further."""
        self._held_by = 0
        status = "cancelled" if reason == "client" else "interrupted"
        if self._busy:
            self._cut(status, reason)
        waited = self._pending.waiting_until(turn)
        metrics.turns_total.labels("interrupted").inc(self._pending.drop(turn))
        if turn and self._pending.gate.advance(turn + 1):
            self._bus.stop(self._session, turn + 1, 0)
        for number in waited:  # who asked for it is to know that it does not come
            self._emit(ev.ReplyEnded(number, status, ""))

    def end(self, reason: str) -> None:
        """The session is over."""
        self._pending.drop(WHOLE_SESSION)
        if self._busy:
            self._cut("cancelled", reason)
        self._retire()

    def _cut(self, status: str, reason: str) -> None:
        """The current reply is not to be heard any further. Silence first, then the bookkeeping."""
        reply = self._current
        if reply is None:
            return
        now_s = self._loop.time()
        heard = reply.playout.heard(now_s)
        self._emit(ev.Interrupt(reply.turn, self._ms(reply, heard), reply.heard_text(heard)))
        self.interrupted += 1
        self._pending.gate.advance(reply.turn + 1)
        self._channel.publish(fr.TurnInterrupted(reply.turn, reason, heard))
        self._bus.stop(self._session, reply.turn + 1, 0)
        self._record.heard(reply, heard)
        self._finish(reply, status)
        reply.status = status
        self._retire()

    def _finish(self, reply: Reply, status: str) -> None:
        """Nothing more is sent of this reply."""
        if reply.ended:
            return
        reply.ended, reply.status = True, status
        calls: tuple[ToolCall, ...] = ()
        if status == "completed":
            wanted, reply.calls = reply.calls, []  # once, though a reply that is sent again ends again
            reply.called = reply.called or bool(wanted)
            self._record.heard(reply, reply.playout.there)
            calls = self._record.called(reply.turn, wanted)
        elif status == "failed":
            self._record.heard(reply, reply.playout.sent)
        self._emit(ev.ReplyEnded(reply.turn, status, reply.text, calls))

    def _retire(self) -> None:
        """The current reply was played, or will not be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reply, self._current = self._current, None
        if reply is not None:
            self._past = reply
            metrics.turns_total.labels(reply.status).inc()
            heard = reply.playout.heard(self._loop.time())
            self._publish(fr.PlayedOut(reply.turn, reply.revision, heard, reply.playout.sent))

    def _publish(self, frame: Frame) -> None:
        self._channel.publish(frame, urgent=False)

    # -- what was heard ---------------------------------------------------------------------------

    @staticmethod
    def _ms(reply: Reply, samples: int) -> int:
        return samples * 1000 // reply.playout.rate_hz

    def played(self, turn: int, ms: int) -> None:
        """The client has played so much of the reply (turn 0: of the newest)."""
        reply = self._current
        if reply is not None and turn in (0, reply.turn):
            reply.playout.report(ms * reply.playout.rate_hz // 1000, self._loop.time())
            if reply.playout.paused:
                self._record.heard(reply, reply.playout.heard(self._loop.time()))
        elif self._past is not None and turn in (0, self._past.turn) and self._past.status == "interrupted":
            self.truncate(self._past.turn, ms)  # the client knows best where it fell silent

    def truncate(self, turn: int, ms: int) -> None:
        """The person heard so much of this reply, and no more; it may be over already."""
        for reply in (self._current, self._past):
            if reply is not None and reply.turn == turn:
                heard = min(ms * reply.playout.rate_hz // 1000, reply.playout.there)
                if reply.playout.paused:
                    reply.playout.report(heard, self._loop.time())
                self._record.heard(reply, heard)
                return
