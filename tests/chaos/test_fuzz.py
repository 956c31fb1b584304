"""Arbitrary input from clients, files and the broker: no crash, no hang, and nobody else notices. `make fuzz` does more."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.broker import strike
from tests.fuzz.targets import SEPARATOR, TARGETS, seeds


def changed(name: str) -> st.SearchStrategy[bytes]:
    """Valid inputs of a target with pieces cut, doubled and replaced, and other bytes."""
    whole = st.sampled_from(seeds(name))
    pieces = st.tuples(whole, st.integers(0, 200), st.integers(0, 40), st.binary(max_size=12)).map(
        lambda found: found[0][: found[1]] + found[3] + found[0][found[1] + found[2] :]
    )
    many = st.lists(whole | pieces, max_size=4).map(SEPARATOR.join)
    return st.binary(max_size=60) | pieces | many


@pytest.mark.parametrize("name", TARGETS)
def test_arbitrary_input_is_refused_or_taken(name: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=changed(name))
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


async def test_noise_in_the_broker_kills_no_process_and_reaches_no_other_session() -> None:
    report = await strike(seed=1, seconds=0, entries=400)
    assert report.faults == []
    assert report.entries == 400
    assert report.turns >= 3
