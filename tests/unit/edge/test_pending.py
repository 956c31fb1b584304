"""Replies that are made and not heard yet: for which turns, and for how long."""

from services.edge.pending import LIMIT, Accepted, Pending
from services.edge.playout import Playout
from shared.protocol.session import ReplyOptions
from shared.protocol.turns import WHOLE_TURN


def pending() -> Pending:
    return Pending(lambda: Playout(16_000, 30))


def turn(number: int, revision: int = 0) -> Accepted:
    return Accepted(number, revision, "hello", ReplyOptions(), speculated=True, interruptible=True)


def test_a_turn_that_was_accepted_takes_its_own_revision_and_no_other() -> None:
    """Also where nobody said that the others are stale."""
    made = pending()
    early = made.reply_of(1, 0)
    made.accept(turn(1, 1))
    assert made.first() is None
    assert made.reply_of(1, 0) is None
    assert made.reply_of(1, 2) is None
    reply = made.reply_of(1, 1)
    assert reply is not None
    assert reply is not early
    assert made.first() == (turn(1, 1), reply)


def test_the_oldest_turn_that_waits_comes_first() -> None:
    made = pending()
    for number in (1, 2):
        made.accept(turn(number))
    second = made.reply_of(2, 0)
    assert made.first() is None  # what the first waits for is not there
    first = made.reply_of(1, 0)
    assert made.first() == (turn(1), first)
    made.take(1)
    assert made.first() == (turn(2), second)


def test_a_newer_revision_takes_the_place_of_an_older_one_and_not_the_other_way() -> None:
    made = pending()
    made.reply_of(1, 0)
    newer = made.reply_of(1, 1)
    assert newer is not None
    assert newer.revision == 1
    assert made.reply_of(1, 0) is None
    assert made.reply_of(1, 1) is newer


def test_asking_again_waits_for_the_next_revision() -> None:
    made = pending()
    made.accept(turn(1))
    made.reply_of(1, 0)
    again = made.again(turn(1))
    assert (again.revision, again.speculated) == (1, False)
    assert made.supersede(1, 1)
    assert made.first() is None
    assert made.reply_of(1, 0) is None
    assert made.reply_of(1, 1) is not None


def test_what_is_superseded_or_dropped_is_gone() -> None:
    made = pending()
    made.reply_of(1, 0)
    assert made.supersede(1, WHOLE_TURN)
    assert not made.supersede(1, WHOLE_TURN)
    assert made.reply_of(1, 5) is None
    for number in (2, 3):
        made.accept(turn(number))
    assert made.drop(2) == [2]
    assert made.waiting
    made.reject(3)
    assert not made.waiting


def test_only_so_many_are_made_at_once() -> None:
    made = pending()
    replies = [made.reply_of(number, 0) for number in range(1, LIMIT + 2)]
    assert made.reply_of(1, 0) is not replies[0]
    assert made.reply_of(LIMIT + 1, 0) is replies[-1]


def test_a_stale_turn_is_not_accepted() -> None:
    made = pending()
    made.gate.advance(2)
    made.accept(turn(1))
    assert not made.waiting
