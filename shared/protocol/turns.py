"""Stale is a number: which turn and revision of a session still count.

Every reader asks a gate before it uses a frame, the edge last of all. Pure.
"""

from collections import OrderedDict

Position = tuple[int, int]
"""(turn, revision)"""
WHOLE_TURN = WHOLE_SESSION = 2**31
"""A revision, or a turn, above all: nothing of it counts."""


class TurnGate:
    """The lowest (turn, revision) of one session that still counts, and the lowest revision of its newest turn.

    Both only ever rise. The second is there because a reply may still be wanted while someone speaks into it: what
    is revised then is the new turn, and not the reply to the one before.
    """

    __slots__ = ("_newest", "floor")

    def __init__(self) -> None:
        self.floor: Position = (0, 0)
        self._newest: Position = (0, 0)

    def advance(self, turn: int, revision: int = 0) -> bool:
        """Everything before this position is stale from now on. Returns whether that is news."""
        if (turn, revision) <= self.floor:
            return False
        self.floor = (turn, revision)
        return True

    def supersede(self, turn: int, revision: int) -> bool:
        """Earlier revisions of this turn are stale from now on, earlier turns are not. Returns whether that is news."""
        if (turn, revision) <= self._newest:
            return False
        self._newest = (turn, revision)
        return True

    def is_stale(self, turn: int, revision: int) -> bool:
        return (turn, revision) < self.floor or (turn == self._newest[0] and revision < self._newest[1])


class TurnGates:
    """Gates of the sessions that were heard of most recently; forgetting one costs work, never rightness."""

    def __init__(self, limit: int = 10_000) -> None:
        self._gates: OrderedDict[str, TurnGate] = OrderedDict()
        self._limit = limit

    def of(self, session: str) -> TurnGate:
        gate = self._gates.get(session)
        if gate is None:
            gate = self._gates[session] = TurnGate()
            if len(self._gates) > self._limit:
                self._gates.popitem(last=False)
        self._gates.move_to_end(session)
        return gate

    def is_stale(self, session: str, turn: int, revision: int) -> bool:
        gate = self._gates.get(session)
        return gate is not None and gate.is_stale(turn, revision)
