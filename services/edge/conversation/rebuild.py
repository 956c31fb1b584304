"""Rebuilds a conversation from the session's log, for the edge that goes on with it. Pure.

The core gets what it got at the edge before: each entry at the time at which it was written, and its timers in between.
Hence it decides the same, and its effects are those of that edge. What the log shows to be done is not done again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation.core import Core, Input
from services.edge.conversation.inputs import Restore, Stamp, Timer, TimerFired
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import Frame, PlayedOut
from shared.protocol.streams import ROUTES, StreamKind

Entry = tuple[str, int, list[Frame]]
"""Id, fence and frames of an entry of the log."""

REPLAYED = {Timer.SILENCE, Timer.TRANSCRIPT, Timer.REPLY}
"""Timers that decide what becomes of a turn. The others measure how long a person waits, and begin again with the client."""


class Rebuild:
    """What follows from the entries since a resume point."""

    def __init__(self, core: Core, now: Stamp) -> None:
        self.events: list[tuple[int, ev.Event]] = []
        """All events of this time, whether or not the client has received them, each with its time (ms, the broker's clock).
        Of the audio only what the client has received."""
        self.timers: dict[tuple[Timer, int], float] = {}
        """When each timer that runs now is due, in s."""
        self._ended: list[fx.TurnEnded] = []
        self._core, self._now = core, now
        self._written: Counter[tuple[str, int, int]] = Counter()
        self._unwritten: list[Frame] = []

    def run(self, restore: Restore, entries: Sequence[Entry]) -> None:
        """Feed the core with the entries, in order."""
        self._written.update(_identity(frame) for _, _, frames in entries for frame in frames)
        self._feed(restore, self._now)
        for entry_id, fence, frames in entries:
            at = self._at(milliseconds(entry_id), fence)
            self._fire_until(at.now_s)
            for frame in frames:
                self._feed(frame, at)
        self._fire_until(self._now.now_s)

    def unwritten(self) -> Iterable[Frame]:
        """Return the frames that the edge before did not publish in time."""
        return self._unwritten

    def outcomes(self) -> Iterable[fx.TurnEnded]:
        """Return the outcomes of the replies whose end that edge did not see."""
        ended = {frame.turn for frame in self._unwritten if isinstance(frame, PlayedOut)}
        return [outcome for outcome in self._ended if outcome.turn in ended]

    def _at(self, written_ms: int, fence: int) -> Stamp:
        """Return the time at which an entry was written, by both clocks."""
        ago_s = max(0, self._now.now_ms - written_ms) / 1000
        return Stamp(self._now.now_s - ago_s, written_ms, written_ms, fence)

    def _fire_until(self, now_s: float) -> None:
        while due := [(at_s, key) for key, at_s in self.timers.items() if at_s <= now_s]:
            at_s, (timer, turn) = min(due, key=lambda one: one[0])
            del self.timers[timer, turn]
            at_ms = self._now.now_ms - round(1000 * (self._now.now_s - at_s))
            self._feed(TimerFired(timer, turn), Stamp(at_s, at_ms))

    def _feed(self, what: Input, at: Stamp) -> None:
        for effect in self._core.on(what, at):
            match effect:
                case fx.Publish(frame):
                    self._publish(frame)
                case fx.StartTimer(timer, delay_s, turn):
                    self.timers[timer, turn] = delay_s + (at if timer in REPLAYED else self._now).now_s
                case fx.CancelTimer(timer, turn):
                    self.timers.pop((timer, turn), None)
                case fx.TurnEnded():
                    self._ended.append(effect)
                case fx.StopWorkers() | fx.SaveHistory() | fx.Close():
                    pass  # done by the edge before; or done once, at the end
                case fx.Count() | fx.Silenced() | fx.FirstAudio() | fx.FirstPlayed():
                    pass
                case _:
                    self.events.append((at.now_ms, effect))

    def _publish(self, frame: Frame) -> None:
        if StreamKind.OUT not in ROUTES["edge"][type(frame)]:
            return  # a client's wish, or the agent's own: it is in the input stream
        identity = _identity(frame)
        if self._written[identity]:
            self._written[identity] -= 1
        else:
            self._unwritten.append(frame)


def _identity(frame: Frame) -> tuple[str, int, int]:
    return type(frame).__name__, getattr(frame, "turn", 0), getattr(frame, "revision", 0)
