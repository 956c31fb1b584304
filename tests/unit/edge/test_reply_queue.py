"""Replies that do not play yet: which are kept, which are given out, and in what order."""

from services.edge.conversation.playout import Playout
from services.edge.conversation.reply import Reply, ReplyState
from services.edge.conversation.reply_queue import PREPARED_LIMIT, WAITING_LIMIT, ReplyQueue
from shared.protocol.turns import WHOLE_TURN


def new_queue() -> ReplyQueue:
    return ReplyQueue(lambda: Playout(16_000, 30))


def arrive(queue: ReplyQueue, turn: int, revision: int = 0) -> Reply:
    """A frame of this reply arrives."""
    reply = queue.find(turn, revision)
    assert reply is not None
    reply.arrived = True
    return reply


def test_a_turn_that_was_accepted_takes_its_own_revision_and_no_other() -> None:
    """Also where nobody said that the others are stale."""
    queue = new_queue()
    early = arrive(queue, 1)
    queue.accept(1, 1)
    assert early.state is ReplyState.INTERRUPTED
    assert queue.first() is None
    assert queue.find(1, 0) is None
    assert queue.find(1, 2) is None
    reply = arrive(queue, 1, 1)
    assert reply is not early
    assert reply.state is ReplyState.WAITING
    assert queue.first() is reply


def test_the_oldest_turn_that_waits_comes_first() -> None:
    queue = new_queue()
    for number in (1, 2):
        queue.accept(number, 0)
    second = arrive(queue, 2)
    assert queue.first() is None  # what the first waits for is not there
    first = arrive(queue, 1)
    assert queue.first() is first
    queue.take(first)
    assert queue.first() is second


def test_a_newer_revision_takes_the_place_of_an_older_one_and_not_the_other_way() -> None:
    queue = new_queue()
    older, newer = arrive(queue, 1), arrive(queue, 1, 1)
    assert older.state is ReplyState.INTERRUPTED
    assert newer.revision == 1
    assert queue.find(1, 0) is None
    assert queue.find(1, 1) is newer


def test_asking_again_waits_for_the_next_revision() -> None:
    queue = new_queue()
    queue.accept(1, 0)
    reply = arrive(queue, 1)
    reply.interruptible = False
    again = queue.redo(reply)
    assert (again.revision, again.speculated, again.interruptible) == (1, False, False)
    assert queue.first() is None
    assert queue.find(1, 0) is None
    assert arrive(queue, 1, 1) is again


def test_what_is_superseded_or_dropped_is_gone() -> None:
    queue = new_queue()
    arrive(queue, 1)
    assert queue.supersede(1, WHOLE_TURN)
    assert not queue.supersede(1, WHOLE_TURN)
    assert queue.find(1, 5) is None
    for number in (2, 3):
        queue.accept(number, 0)
    assert queue.drop_until(2) == [2]
    assert queue.is_waiting
    queue.supersede(3, WHOLE_TURN)
    assert not queue.is_waiting


def test_only_a_few_are_prepared_at_once() -> None:
    queue = new_queue()
    replies = [arrive(queue, number) for number in range(1, PREPARED_LIMIT + 2)]
    assert queue.find(1, 0) is not replies[0]
    assert queue.find(PREPARED_LIMIT + 1, 0) is replies[-1]


def test_replies_that_turns_wait_for_are_kept_however_many_arrive() -> None:
    queue = new_queue()
    for number in range(1, WAITING_LIMIT + 1):
        queue.accept(number, 0)
    replies = [arrive(queue, number) for number in range(1, WAITING_LIMIT + 1)]
    arrive(queue, WAITING_LIMIT + 1)
    assert queue.first() is replies[0]
    assert queue.overdue() == []
    queue.accept(WAITING_LIMIT + 1, 0)
    assert queue.overdue() == [1]


def test_a_stale_turn_is_not_accepted() -> None:
    queue = new_queue()
    queue.gate.advance(2)
    assert queue.accept(1, 0) is None
    assert not queue.is_waiting
