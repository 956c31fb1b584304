"""Staleness: which turns and revisions of a session are still valid.

Every reader checks the gate before it uses a frame; the edge checks last, before it sends. Pure.
"""

from collections import OrderedDict

Position = tuple[int, int]
"""(turn, revision)"""
WHOLE_TURN = WHOLE_SESSION = 2**31
"""A revision (or turn) above all others: advancing to it makes the whole turn (or session) stale."""


class TurnGate:
    """The lowest valid (turn, revision) of one session, and the lowest valid revision of its newest turn.

    Both only rise. They are separate because the previous turn's reply may stay valid while the person speaks over it:
    only the new turn is being revised then.
    """

    __slots__ = ("_newest", "floor")

    def __init__(self) -> None:
        self.floor: Position = (0, 0)
        self._newest: Position = (0, 0)

    def advance(self, turn: int, revision: int = 0) -> bool:
        """Make everything before this position stale. Return whether this changed anything."""
        if (turn, revision) <= self.floor:
            return False
        self.floor = (turn, revision)
        return True

    def supersede(self, turn: int, revision: int) -> bool:
        """Make earlier revisions of this turn stale, but not earlier turns. Return whether this changed anything."""
        if (turn, revision) <= self._newest:
            return False
        self._newest = (turn, revision)
        return True

    def is_stale(self, turn: int, revision: int) -> bool:
        return (turn, revision) < self.floor or (turn == self._newest[0] and revision < self._newest[1])


class TurnGates:
    """Gates of the most recently used sessions. Evicting one costs wasted work, never a wrong result."""

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
