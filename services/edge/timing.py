"""The waterfall of a turn: milliseconds since the end of speech at which its parts happened. Pure.

Stamps are the broker's clock, out of the ids of the log's entries, so that they hold across hosts.
"""

from collections import OrderedDict

from shared.frames import TurnCommitted
from shared.session import RATE_HZ

TURNS_KEPT = 8


class Timings:
    """Marks of the latest turns."""

    def __init__(self) -> None:
        self._turns: OrderedDict[int, tuple[int, dict[str, float]]] = OrderedDict()

    def commit(self, frame: TurnCommitted, at_ms: int) -> None:
        """The turn is over. What was decided at `input_ms` was heard `decided - end` samples after the end of speech."""
        spoken_ago_ms = (frame.decided - frame.end) * 1000 // RATE_HZ if frame.end > frame.start else 0
        self._turns[frame.turn] = (frame.input_ms - spoken_ago_ms, {})
        self.mark(frame.turn, "endpoint", at_ms)
        while len(self._turns) > TURNS_KEPT:
            self._turns.popitem(last=False)

    def mark(self, turn: int, name: str, at_ms: int) -> bool:
        """The first time that this happened in this turn counts. Returns whether it was the first."""
        found = self._turns.get(turn)
        if found is None or name in found[1]:
            return False
        found[1][name] = float(at_ms - found[0])
        return True

    def marks(self, turn: int) -> dict[str, float]:
        found = self._turns.get(turn)
        return dict(found[1]) if found else {}
