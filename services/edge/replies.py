"""The replies of a session: makes the current one heard, ends it when it is not wanted, keeps what was heard of it.

It owns the gate, the current reply and its playout. What turns there are is the session's business.
"""

import asyncio
from collections.abc import Callable

from services.edge import events as ev
from services.edge.history import Conversation, cut_text, reply_key
from services.edge.playout import Playout
from services.edge.reply import Reply
from services.edge.timing import Timings
from shared import frames as fr
from shared import metrics
from shared.bus import Bus, Channel
from shared.frames import Frame
from shared.session import Message
from shared.turns import TurnGate

Emit = Callable[[ev.Event], None]

ReplyFrame = fr.VoiceChunk | fr.ReplyDelta | fr.ReplySentence | fr.VoiceDone | fr.ReplyDone


class Replies:
    """One at a time; a newer turn's ends an older one's."""

    def __init__(
        self,
        bus: Bus,
        channel: Channel,
        session: str,
        conversation: Conversation,
        timings: Timings,
        emit: Emit,
        new_playout: Callable[[], Playout],
    ) -> None:
        self.stale = 0
        """Frames dropped because nobody wants them any more."""
        self.interrupted = 0
        self._bus, self._channel, self._session, self._new_playout = bus, channel, session, new_playout
        self._conversation, self._timings, self._emit = conversation, timings, emit
        self._loop = asyncio.get_running_loop()
        self._gate = TurnGate()
        self._current: Reply | None = None
        self._cut_off: Reply | None = None
        self._pump: asyncio.TimerHandle | None = None

    # -- frames -----------------------------------------------------------------------------------

    def handle(self, frame: ReplyFrame, fence: int, at_ms: int) -> None:
        """A frame of a reply, if it is still wanted."""
        turn = frame.turn
        if self._gate.is_stale(turn, frame.revision):
            self.stale += 1
            metrics.dropped.labels("stale").inc()
            return
        reply = self._to(turn, frame.revision)
        match frame:
            case fr.VoiceChunk():
                reply.playout.add(frame, fence)
            case fr.VoiceDone():
                reply.playout.sentence_done(frame.sentence, frame.samples)
            case fr.ReplyDelta():
                self._timings.mark(turn, "first_token", at_ms)
                self._text(reply, reply.add_text(frame))
            case fr.ReplySentence():
                self._timings.mark(turn, "first_sentence", at_ms)
                reply.sentences[frame.index] = frame.text
            case fr.ReplyDone():
                self._text(reply, reply.finish_text(frame))
        self._release(reply, at_ms)

    def fail(self, turn: int, revision: int) -> None:
        """No more comes of this turn's reply."""
        if not self._gate.is_stale(turn, revision):
            self._finish(self._to(turn, revision), "failed")

    def _to(self, turn: int, revision: int) -> Reply:
        reply = self._current
        if reply is None or (reply.turn, reply.revision) != (turn, revision):
            self.end("interrupted", "turn")
            reply = self._current = Reply(turn, revision, self._new_playout())
            self._emit(ev.ReplyBegan(turn))
        return reply

    def _text(self, reply: Reply, text: str) -> None:
        if text and not reply.ended:
            self._emit(ev.ReplyText(reply.turn, text))

    def _release(self, reply: Reply, at_ms: int) -> None:
        now_s = self._loop.time()
        playout = reply.playout
        offset = playout.sent
        for pcm in playout.release(now_s):
            self._emit(ev.ReplyAudio(reply.turn, offset, pcm))
            offset += len(pcm) // 2
        if offset and at_ms and self._timings.mark(reply.turn, "first_audio", at_ms):
            marks = self._timings.marks(reply.turn)
            metrics.turn_latency.observe(max(0.0, marks["first_audio"] / 1000))
            self._emit(ev.Timing(reply.turn, marks))
        if reply.complete:
            self._finish(reply, "completed")
        elif self._pump is None and (wait_s := playout.wait_s(now_s)) is not None:
            self._pump = self._loop.call_later(wait_s, self._pump_more, reply)

    def _pump_more(self, reply: Reply) -> None:
        self._pump = None
        if reply is self._current:
            self._release(reply, 0)

    # -- the end ----------------------------------------------------------------------------------

    def advance(self, turn: int, revision: int) -> None:
        """Replies before this turn's are stale."""
        self._gate.advance(turn, revision)

    def interrupt(self, reason: str, turn: int) -> None:
        """Whatever is being made or played in reply to turns up to this one is not to be heard any further."""
        reply = self._current
        if reply is None:
            if turn and self._gate.advance(turn + 1):
                self._bus.stop(self._session, turn + 1, 0)
        elif not reply.ended or reply.playout.playing(self._loop.time()):
            self.end("cancelled" if reason == "client" else "interrupted", reason)

    def end(self, status: str, reason: str) -> None:
        """The current reply is over: silence first, then the bookkeeping."""
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        reply, self._current = self._current, None
        if reply is None:
            return
        now_s = self._loop.time()
        heard = reply.playout.heard(now_s)
        if not reply.ended or reply.playout.playing(now_s):
            self._emit(ev.Interrupt(reply.turn, heard * 1000 // reply.playout.rate_hz))
            self.interrupted += 1
            self._gate.advance(reply.turn + 1)
            self._channel.publish(fr.TurnInterrupted(reply.turn, reason, heard))
            self._bus.stop(self._session, reply.turn + 1, 0)
            self._cut_off = reply
            if reply.ended:
                self._keep(reply, reply.heard_text(now_s))
            self._finish(reply, status)
        self._publish(fr.PlayedOut(reply.turn, reply.revision, heard, reply.playout.sent))

    def _finish(self, reply: Reply, status: str) -> None:
        """Nothing more is sent of this reply."""
        if reply.ended:
            return
        reply.ended = True
        metrics.turns_total.labels(status).inc()
        self._keep(reply, reply.text if status == "completed" else reply.heard_text(self._loop.time()))
        self._emit(ev.ReplyEnded(reply.turn, status, reply.text))

    def _publish(self, frame: Frame) -> None:
        self._channel.publish(frame, urgent=False)

    # -- what was heard ---------------------------------------------------------------------------

    def played(self, turn: int, ms: int) -> None:
        """The client has played so much of the reply (turn 0: of the newest)."""
        reply = self._current
        if reply is not None and turn in (0, reply.turn):
            reply.playout.report(ms * reply.playout.rate_hz // 1000, self._loop.time())

    def truncate(self, turn: int, ms: int) -> None:
        """The person heard so much of this reply, and no more; it may have been cut off already."""
        for reply in (self._current, self._cut_off):
            if reply is not None and reply.turn == turn:
                sent_ms = reply.playout.sent * 1000 / reply.playout.rate_hz
                self._keep(reply, cut_text(reply.text, ms / sent_ms if sent_ms else 0.0))
                return

    def _keep(self, reply: Reply, text: str) -> None:
        """This is what the conversation holds of the reply."""
        if text or reply.ended:
            message = Message("assistant", text, reply.turn, interrupted=text != reply.text)
            self._conversation.put(reply_key(reply.turn), message)
            self._bus.save_history(self._session, self._conversation.messages())
