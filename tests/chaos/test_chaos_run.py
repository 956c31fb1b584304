"""The short form of `make chaos`: one process of each kind is killed under talking sessions, and nothing is lost."""

import pytest

from benchmarks.chaos.run import LOSSES, run


@pytest.mark.parametrize("workers", [1, 2])
async def test_killed_processes_cost_no_session_no_sample_and_no_turn(workers: int) -> None:
    found = await run(seed=7, kills=5, sessions=3, workers=workers, on_progress=lambda _: None)
    assert {name: found[name.replace(" ", "_")] for name in LOSSES} == dict.fromkeys(LOSSES, 0), found
    assert found["kills"] == 5
    assert found["completed"] > 0
