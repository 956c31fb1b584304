"""The reply that is heard: sent no faster than it plays, paused and resumed, cut, and how much of it was heard.

One at a time. Which reply that is, and when, is the business of `Replies`.
"""

import asyncio
from collections.abc import Callable

from services.edge.account import Account
from services.edge.client import events as ev
from services.edge.record import Record
from services.edge.reply import Reply
from services.edge.timing import Timings
from shared.bus.bus import Channel
from shared.observability import metrics
from shared.protocol import frames as fr
from shared.protocol.session import ToolCall
from shared.protocol.turn_record import INNER


class Delivery:
    """From the edge to the client's ear."""

    def __init__(
        self,
        channel: Channel,
        record: Record,
        timings: Timings,
        account: Account,
        emit: Callable[[ev.Event], None],
        on_played: Callable[[], None],
    ) -> None:
        """`on_played` is called when a reply was played to its end."""
        self.current: Reply | None = None
        self.held_by = 0
        """The turn whose speech holds the reply; 0: none. Nothing is sent meanwhile."""
        self._channel, self._record, self._timings, self._account = channel, record, timings, account
        self._emit, self._on_played = emit, on_played
        self._loop = asyncio.get_running_loop()
        self._past: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- sent -------------------------------------------------------------------------------------

    def begin(self, reply: Reply) -> None:
        """This reply is heard from now on; the one before was retired."""
        self.current = reply
        self._emit(ev.ReplyBegan(reply.turn))
        if reply.failed:
            self._finish(reply, "failed")
        self.send()

    def send(self) -> None:
        """Send what there is of the current reply, unless it is to be silent."""
        reply = self.current
        if reply is None or self.held_by:
            return
        if not reply.ended and (text := reply.untold()):
            self._emit(ev.ReplyText(reply.turn, text))
        offset, underruns = reply.playout.sent, reply.playout.underruns
        released = reply.playout.release(self._loop.time())
        for pcm in released:
            self._emit(ev.ReplyAudio(reply.turn, offset, pcm))
            offset += len(pcm) // 2
        if released:
            samples = sum(map(len, released)) // 2
            self._account.sent(samples, reply.playout.rate_hz, reply.playout.underruns - underruns)
            if not reply.begun:
                self._begun(reply)
        if reply.complete:
            self._finish(reply, "completed")
        self._wait(reply)

    def _begun(self, reply: Reply) -> None:
        """Its first audio has left just now. A reply that is made anew is not the first of its turn."""
        reply.begun = True
        self._mark(reply)
        if self._timings.mark(reply.turn, "first_audio", self._account.now_ms()):
            self._account.began(reply.turn)
            marks = self._timings.marks(reply.turn)
            self._emit(ev.Timing(reply.turn, {name: ms for name, ms in marks.items() if name not in INNER}))

    def fail(self) -> None:
        """No more comes of the current reply: what was sent is played."""
        if self.current is not None:
            self._finish(self.current, "failed")
            self._wait(self.current)

    def _mark(self, reply: Reply) -> None:
        for name, marked_ms in reply.marks.items():
            self._timings.mark(reply.turn, name, marked_ms)

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
        if reply is not self.current or reply.playout.paused:
            return
        if reply.playing(self._loop.time()):
            self.send()
            return
        self.retire()
        self._on_played()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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

    def retire(self) -> None:
        """The current reply was played, or will not be."""
        self._cancel_timer()
        reply, self.current = self.current, None
        if reply is not None:
            self._past = reply
            heard = reply.playout.heard(self._loop.time())
            self._mark(reply)
            self._account.over(reply, heard)
            self._channel.publish(
                fr.PlayedOut(reply.turn, reply.revision, heard, reply.playout.sent),
                urgent=False,
            )

    # -- someone speaks into it -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """The current reply is still being made, sent or played."""
        return self.current is not None and self.current.playing(self._loop.time())

    def begun_s(self) -> float | None:
        """For how long the current reply has been playing; None if none is."""
        if self.current is None or not self.busy:
            return None
        began_s = self.current.playout.began_s
        return None if began_s is None else self._loop.time() - began_s

    def left_s(self) -> float | None:
        """How much of the current reply is still to be heard; None if there is none, or its end is not known."""
        reply = self.current
        if reply is None or not (self.busy and reply.text_done and reply.playout.whole):
            return None
        return (reply.playout.there - reply.playout.heard(self._loop.time())) / reply.playout.rate_hz

    def hold(self, turn: int) -> bool:
        """Silence, for as long as it is not known whether this turn's speech is words. Silence first, then the
        bookkeeping. Returns whether there was something to be silenced."""
        self.held_by = turn
        reply = self.current
        if reply is None or not self.busy or reply.playout.paused:
            return False
        now_s = self._loop.time()
        reply.playout.pause(now_s)
        heard = reply.playout.heard(now_s)
        if reply.playout.sent > heard or not reply.ended:
            reply.told_paused = True
            self._emit(ev.Pause(reply.turn, _ms(reply, heard)))
        if reply.playout.sent:
            self._record.heard(reply, heard)
        return reply.told_paused

    def resume(self) -> None:
        """Go on from where it stopped."""
        self.held_by = 0
        reply = self.current
        if reply is None or not reply.playout.paused:
            return
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
            self._emit(ev.Resume(reply.turn, _ms(reply, heard), text))
        self._cancel_timer()
        self.send()

    def cut(self, status: str, reason: str) -> int:
        """The current reply is not to be heard any further. Silence first, then the bookkeeping. Returns its turn; 0 if
        there was nothing to be heard."""
        self.held_by = 0
        reply = self.current
        if reply is None or not self.busy:
            return 0
        heard = reply.playout.heard(self._loop.time())
        self._emit(ev.Interrupt(reply.turn, _ms(reply, heard), reply.heard_text(heard)))
        self._channel.publish(fr.TurnInterrupted(reply.turn, reason, heard))
        self._finish(reply, status)
        self._record.heard(reply, heard)
        reply.status = status
        self.retire()
        return reply.turn

    # -- what the client says of it ---------------------------------------------------------------

    def played(self, turn: int, ms: int) -> None:
        """The client has played so much of the reply (turn 0: of the newest)."""
        reply = self.current
        if reply is not None and turn in (0, reply.turn):
            reply.playout.report(ms * reply.playout.rate_hz // 1000, self._loop.time())
            if reply.playout.steady:
                self._account.heard(reply.turn, min(ms, _ms(reply, reply.playout.sent)))
            if reply.playout.paused:
                self._record.heard(reply, reply.playout.heard(self._loop.time()))
        elif self._past is not None and turn in (0, self._past.turn) and self._past.status == "interrupted":
            self.truncate(self._past.turn, ms)  # the client knows best where it fell silent

    def truncate(self, turn: int, ms: int) -> None:
        """The person heard so much of this reply, and no more; it may be over already."""
        for reply in (self.current, self._past):
            if reply is not None and reply.turn == turn:
                heard = min(ms * reply.playout.rate_hz // 1000, reply.playout.there)
                if reply.playout.paused:
                    reply.playout.report(heard, self._loop.time())
                self._record.heard(reply, heard)
                return


def _ms(reply: Reply, samples: int) -> int:
    return samples * 1000 // reply.playout.rate_hz
