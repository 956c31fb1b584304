"""Which turn and revision of a session still count."""

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.turns import WHOLE_TURN, TurnGate, TurnGates

positions = st.tuples(st.integers(0, 5), st.integers(0, 5))


def test_everything_before_a_position_is_stale() -> None:
    gate = TurnGate()
    assert not gate.is_stale(0, 0)
    assert gate.advance(2, 1)
    assert gate.is_stale(1, 9)
    assert gate.is_stale(2, 0)
    assert not gate.is_stale(2, 1)
    assert not gate.advance(2, 1)
    assert not gate.advance(1, 9)
    assert gate.floor == (2, 1)


def test_a_new_revision_leaves_the_reply_to_the_turn_before_alone() -> None:
    gate = TurnGate()
    assert gate.supersede(3, 1)
    assert gate.is_stale(3, 0)
    assert not gate.is_stale(3, 1)
    assert not gate.is_stale(2, 0)
    assert not gate.supersede(3, 1)


def test_a_whole_turn_can_be_stale() -> None:
    gate = TurnGate()
    gate.advance(4, WHOLE_TURN)
    assert gate.is_stale(4, 1_000)
    assert not gate.is_stale(5, 0)


@given(st.lists(st.tuples(st.booleans(), positions)), positions)
def test_what_is_stale_stays_stale_while_turns_only_rise(
    steps: list[tuple[bool, tuple[int, int]]], position: tuple[int, int]
) -> None:
    gate = TurnGate()
    floor = gate.floor
    for whole, (turn, revision) in steps:
        stale = gate.is_stale(*position) and position < gate.floor
        news = gate.advance(turn, revision) if whole else gate.supersede(turn, revision)
        assert gate.floor >= floor
        assert not stale or gate.is_stale(*position)
        if news and whole:
            assert gate.floor == (turn, revision)
            assert not gate.is_stale(turn, WHOLE_TURN)
        floor = gate.floor


def test_sessions_that_were_not_heard_of_for_long_are_forgotten() -> None:
    gates = TurnGates(limit=2)
    gates.of("one").advance(5)
    gates.of("two").advance(5)
    assert gates.of("one").floor == (5, 0)  # and so it is the newest
    gates.of("three")
    assert gates.is_stale("one", 4, 0)
    assert not gates.is_stale("two", 4, 0)
    assert not gates.is_stale("nobody", 0, 0)
