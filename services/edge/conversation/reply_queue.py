"""Replies that do not play yet: those that are being prepared, and those whose turn waits for them. Pure.

A reply may be prepared for any revision of any turn that is not stale. It leaves the queue to be played only if its turn
was accepted.
"""

from collections.abc import Callable

from services.edge.conversation.playout import ALL, Playout
from services.edge.conversation.reply import Reply, ReplySignal, ReplyState
from shared.protocol.turns import TurnGate

PREPARED_LIMIT = 4
"""Replies that are prepared at the same time; the oldest is dropped first."""
WAITING_LIMIT = 32
"""Turns that wait for their replies; the oldest is given up first."""


class ReplyQueue:
    """The replies of one session that do not play yet, by their turns."""

    def __init__(self, new_playout: Callable[[], Playout]) -> None:
        self.gate = TurnGate()
        self._new_playout = new_playout
        self._replies: dict[int, Reply] = {}
        self._received: tuple[int, int] | None = None

    def find(self, turn: int, revision: int) -> Reply | None:
        """Return the reply that a frame belongs to, made if it is new; None if it is stale."""
        if self.gate.is_stale(turn, revision):
            return None
        reply = self._replies.get(turn)
        if reply is None or (reply.state is ReplyState.PREPARING and reply.revision < revision):
            reply = self._add(turn, revision)
            prepared = sorted(one.turn for one in self._replies.values() if one.state is ReplyState.PREPARING)
            for oldest in prepared[:-PREPARED_LIMIT]:
                self._drop(self._replies[oldest])
        return reply if reply.revision == revision else None

    def accept(self, turn: int, revision: int) -> Reply | None:
        """Let the turn wait for the reply to this revision. Returns the reply; None if it is stale."""
        if self.gate.is_stale(turn, revision):
            return None
        reply = self._replies.get(turn)
        if reply is None or reply.revision != revision:
            reply = self._add(turn, revision)
        reply.change(ReplySignal.ACCEPT)
        return reply

    def overdue(self) -> list[int]:
        """Return the oldest of the turns that wait, if too many wait."""
        return self._waiting_turns()[:-WAITING_LIMIT]

    def redo(self, reply: Reply) -> Reply:
        """Let the turn wait for another reply instead, with a revision of its own."""
        again = self._add(reply.turn, reply.revision + 1)
        again.interruptible = reply.interruptible
        again.change(ReplySignal.ACCEPT)
        return again

    @property
    def is_waiting(self) -> bool:
        return any(reply.state is ReplyState.WAITING for reply in self._replies.values())

    def get(self, turn: int) -> Reply | None:
        return self._replies.get(turn)

    def waits(self, turn: int) -> bool:
        reply = self._replies.get(turn)
        return reply is not None and reply.state is ReplyState.WAITING

    def first(self) -> Reply | None:
        """Return the reply of the oldest turn that waits; None if nothing of it has arrived."""
        waiting = self._waiting_turns()
        if not waiting or not (reply := self._replies[waiting[0]]).arrived:
            return None
        return reply

    def take(self, reply: Reply) -> None:
        """Take a reply out to play it; replies to earlier turns are stale from now on."""
        del self._replies[reply.turn]
        self.gate.advance(reply.turn, reply.revision)

    def restrict(self, turn: int, samples: int) -> None:
        """A client has received this many samples of the reply to this turn, all of earlier and nothing of later replies: no
        reply releases more until `lift`."""
        self._received = (turn, samples)

    def lift(self) -> None:
        self._received = None
        for reply in self._replies.values():
            reply.playout.lift()

    def supersede(self, turn: int, revision: int) -> bool:
        """Make earlier revisions of this turn stale. Returns whether a reply to one of them was dropped."""
        self.gate.supersede(turn, revision)
        reply = self._replies.get(turn)
        if reply is None or reply.revision >= revision:
            return False
        self._drop(reply)
        return reply.arrived

    def drop_until(self, turn: int) -> list[int]:
        """Drop the replies to all turns up to this one. Returns the turns that waited for theirs."""
        waited = [number for number in self._waiting_turns() if number <= turn]
        for reply in [reply for reply in self._replies.values() if reply.turn <= turn]:
            self._drop(reply)
        return waited

    def _waiting_turns(self) -> list[int]:
        return sorted(reply.turn for reply in self._replies.values() if reply.state is ReplyState.WAITING)

    def _add(self, turn: int, revision: int) -> Reply:
        if (replaced := self._replies.get(turn)) is not None:
            replaced.change(ReplySignal.INTERRUPT)
        reply = self._replies[turn] = Reply(turn, revision, self._new_playout())
        if self._received is not None:
            newest, samples = self._received
            reply.playout.restrict(samples if turn == newest else ALL if turn < newest else 0)
        return reply

    def _drop(self, reply: Reply) -> None:
        reply.change(ReplySignal.INTERRUPT)
        del self._replies[reply.turn]
