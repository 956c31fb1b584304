"""Whole conversations in virtual time, with delays, pauses, interruptions and deaths at random: nothing stale is heard."""

import pytest

from services.edge.conversation import speculation
from services.edge.conversation.turn_machine import UserTurn
from tests.support import virtual_time
from tests.support.simulation import converse

TURNS = 20

pytestmark = pytest.mark.no_debug


@pytest.mark.parametrize("seed", range(100, 110))
def test_nothing_stale_leaves_the_edge(seed: int) -> None:
    client = virtual_time.run(converse(seed, TURNS))
    assert client.faults == []
    assert client.seen["completed"] > 0


def test_workers_that_die_all_the_time_are_not_heard_either() -> None:
    client = virtual_time.run(converse(1, TURNS, kill_chance=0.2))
    assert client.faults == []
    assert client.seen["kills"] > 5


def test_without_speculation_it_is_the_same_conversation() -> None:
    client = virtual_time.run(converse(2, TURNS, speculate=False))
    assert client.faults == []


@pytest.mark.parametrize("seed", range(100, 108))
def test_turns_that_are_answered_as_they_sound_are_the_same_conversation(seed: int) -> None:
    client = virtual_time.run(converse(seed, TURNS, omni=True, kill_chance=0.1 if seed % 2 else 0.02))
    assert client.faults == []
    assert client.seen["completed"] > 0
    assert len(client.heard) > 0


def test_the_simulation_sees_what_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an edge that takes the first thing that it understood for the whole turn, and checks no reply against it."""

    monkeypatch.setattr(UserTurn, "begin_revision", lambda self, revision: None)
    monkeypatch.setattr(speculation, "is_valid", lambda state, reply: True)
    faults = [fault for seed in range(3) for fault in virtual_time.run(converse(seed, TURNS)).faults]
    assert any("stale" in fault for fault in faults)
