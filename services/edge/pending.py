"""Replies that are being made and not heard yet, and the turns that wait for one. Pure.

A reply may be made for any revision of any turn that is not stale; it is given out only to a turn that was accepted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.edge.playout import Playout
from services.edge.reply import Reply
from shared.protocol.frames import TurnAudioReady
from shared.protocol.session import ReplyOptions
from shared.protocol.turns import TurnGate

LIMIT = 4
"""Replies that are made at once; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A turn that is over and is to be answered."""

    turn: int
    revision: int
    text: str
    options: ReplyOptions
    speculated: bool
    """Its reply was begun before the turn was over: it counts only if it was told what it would be told now."""
    interruptible: bool
    sound: TurnAudioReady | None = None
    """Where the reply is made from that instead of the text."""


class Pending:
    """What one session has in hand."""

    def __init__(self, new_playout: Callable[[], Playout]) -> None:
        self.gate = TurnGate()
        self._new_playout = new_playout
        self._replies: dict[int, Reply] = {}
        self._accepted: dict[int, Accepted] = {}

    @property
    def waiting(self) -> bool:
        """A turn waits for its reply."""
        return bool(self._accepted)

    def reply_of(self, turn: int, revision: int) -> Reply | None:
        """The reply that something belongs to, made if need be; None if it is stale."""
        if self.gate.is_stale(turn, revision):
            return None
        accepted = self._accepted.get(turn)
        if accepted is not None and accepted.revision != revision:
            return None
        reply = self._replies.get(turn)
        if reply is None or reply.revision < revision:
            reply = self._replies[turn] = Reply(turn, revision, self._new_playout())
            if len(self._replies) > LIMIT:
                del self._replies[min(self._replies)]
        return reply if reply.revision == revision else None

    def accept(self, turn: Accepted) -> None:
        """This turn waits for its reply from now on."""
        if self.gate.is_stale(turn.turn, turn.revision):
            return
        self._accepted[turn.turn] = turn
        reply = self._replies.get(turn.turn)
        if reply is not None and reply.revision != turn.revision:
            del self._replies[turn.turn]

    def first(self) -> tuple[Accepted, Reply] | None:
        """The oldest turn that waits, with what there is of its reply."""
        if not self._accepted:
            return None
        accepted = next(iter(self._accepted.values()))
        reply = self._replies.get(accepted.turn)
        return None if reply is None else (accepted, reply)

    def take(self, turn: int) -> None:
        """Its reply is heard from now on, and is none of these any more."""
        del self._accepted[turn], self._replies[turn]

    def again(self, turn: Accepted) -> Accepted:
        """It waits for another reply instead, of a revision that is its own."""
        again = replace(turn, revision=turn.revision + 1, speculated=False)
        self._accepted[again.turn] = again
        return again

    def supersede(self, turn: int, revision: int) -> bool:
        """Earlier revisions of this turn are stale. Returns whether a reply was in hand for one of them."""
        self.gate.supersede(turn, revision)
        reply = self._replies.get(turn)
        if reply is None or reply.revision >= revision:
            return False
        del self._replies[turn]
        return True

    def reject(self, turn: int) -> bool:
        """It waits for nothing. Returns whether it did."""
        return self._accepted.pop(turn, None) is not None

    def drop(self, turn: int) -> list[int]:
        """Everything for turns up to this one is in vain. Returns those that waited for their replies."""
        waited = [number for number in self._accepted if number <= turn]
        for number in waited:
            del self._accepted[number]
        for number in [number for number in self._replies if number <= turn]:
            del self._replies[number]
        return waited
