"""The waterfall of a turn: milliseconds since the end of speech at which its parts happened. Pure.

Stamps are the broker's clock, out of the ids of the log's entries, so that they hold across hosts.
"""

from collections import OrderedDict

from shared.protocol.frames import TurnCommitted
from shared.protocol.session import RATE_HZ

TURNS_KEPT = 8


class Timings:
    """Marks of the latest turns."""

    def __init__(self) -> None:
        self._turns: OrderedDict[int, tuple[int, dict[str, float]]] = OrderedDict()
        self._spoken: set[int] = set()
        self._traces: OrderedDict[int, str] = OrderedDict()

    def commit(self, frame: TurnCommitted, at_ms: int, *, detected: bool = True) -> None:
        """The turn is over. What was decided at `input_ms` was heard `decided - end` samples after the end of speech; where
        turns are not `detected`, the client has said then that speech was at its end."""
        spoken_ago_ms = 0
        if frame.end > frame.start:
            spoken_ago_ms = (frame.decided_at - frame.end) * 1000 // RATE_HZ if detected else 0
            self._spoken.add(frame.turn)
        self._turns[frame.turn] = (frame.input_ms - spoken_ago_ms, {})
        self.mark(frame.turn, "endpoint", at_ms)
        while len(self._turns) > TURNS_KEPT:
            self._spoken.discard(self._turns.popitem(last=False)[0])

    def mark(self, turn: int, name: str, at_ms: int) -> bool:
        """The first time that this happened in this turn counts. Returns whether it was the first."""
        found = self._turns.get(turn)
        if found is None or name in found[1]:
            return False
        found[1][name] = float(at_ms - found[0])
        return True

    def spoken(self, turn: int) -> bool:
        """Whether the turn was spoken, and not typed."""
        return turn in self._spoken

    def follow(self, turn: int, trace: str) -> None:
        """The turn belongs to this trace (W3C traceparent). The first counts: later ones are of a part of it."""
        if trace and turn not in self._traces:
            self._traces[turn] = trace
            while len(self._traces) > TURNS_KEPT:
                self._traces.popitem(last=False)

    def trace(self, turn: int) -> str:
        """Its traceparent; empty where it is not traced."""
        return self._traces.get(turn, "")

    def spoken_ms(self, turn: int) -> int:
        """Broker's clock at the end of its speech, from which its marks are counted; 0 where it is not known."""
        found = self._turns.get(turn)
        return found[0] if found else 0

    def marks(self, turn: int) -> dict[str, float]:
        found = self._turns.get(turn)
        return dict(found[1]) if found else {}
