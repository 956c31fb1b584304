"""The soak: its judgement of what grows, and a short one with a whole system."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.soak.samples import judge

pytestmark = pytest.mark.timeout(300)  # it starts processes


def grown(name: str, *values: float, seconds: float = 600) -> bool | None:
    (verdict,) = judge([{name: value} for value in values], seconds)
    return verdict.grew


def test_what_is_flat_after_its_beginning_has_not_grown() -> None:
    assert grown("edge MiB", 60, 90, 100, 100, 101, 100, 101, 102, 103) is False
    assert grown("consumers", 4, 4, 4, 5, 4, 4, 4, 4, 4) is False


@pytest.mark.parametrize(
    ("name", "step"), [("edge MiB", 4), ("vad files", 3), ("consumers", 1), ("keys without TTL", 3), ("keys", 30)]
)
def test_what_goes_on_growing_is_found(name: str, step: float) -> None:
    assert grown(name, *(50 + step * number for number in range(9))) is True


def test_what_settles_late_is_not_judged_in_a_short_run() -> None:
    assert grown("keys", *(50 + 30 * number for number in range(9)), seconds=60) is None


def test_a_short_soak_of_a_whole_system(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["soak", "--minutes", "0.33", "--callers", "3", "--out", str(tmp_path)])
    assert found.exit_code == 0, found.output
    (file,) = tmp_path.glob("soak-*.json")
    result = json.loads(file.read_text())
    assert result["counts"]["turns"] > 3
    judged = {figure["name"] for figure in result["figures"] if figure["grew"] is False}
    assert {"edge MiB", "edge files", "jobs", "pending", "consumers", "keys without TTL"} <= judged
