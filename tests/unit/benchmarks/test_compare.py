"""When a figure has regressed, and which file cannot be a baseline."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.compare import Comparison, Kind, Row, Rule, compare, print_comparison, ratio, read_baseline

KEY = ("50 sessions", "overhead [p50], ms")
RULE = Rule(1.1)
values = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20)


def row(before: list[float], now: list[float], rule: Rule = RULE, *, in_turn: bool = False) -> Row:
    samples = [{KEY: dict(enumerate(found))} for found in (before, now)]
    (found,) = compare(*samples, lambda key: rule, in_turn=in_turn).rows
    return found


def regressed(before: list[float], now: list[float], rule: Rule = RULE, *, in_turn: bool = False) -> bool:
    return row(before, now, rule, in_turn=in_turn).regressed


@given(values, st.booleans(), st.booleans())
def test_nothing_regresses_against_itself(found: list[float], in_turn: bool, more_is_better: bool) -> None:
    same = row(found, found, Rule(1.0, more_is_better=more_is_better), in_turn=in_turn)
    assert same.ratio == 1
    assert not same.regressed


@given(values, st.floats(1.2, 100))
def test_pairs_regress_if_each_got_worse_however_far_the_machine_drifts(found: list[float], by: float) -> None:
    assert regressed(found, [value * by for value in found], in_turn=True)
    assert regressed([value * by for value in found], found, Rule(1.1, more_is_better=True), in_turn=True)
    assert not regressed(found, [value * by for value in found], Rule(1.1, more_is_better=True), in_turn=True)


def test_one_pair_that_got_better_makes_the_others_doubtful() -> None:
    assert regressed([1, 1, 1], [1.5, 1.5, 1.5], in_turn=True)
    assert not regressed([1, 1, 1], [1.5, 1.5, 0.9], in_turn=True)


def test_one_of_eight_pairs_may_be_disturbed() -> None:
    assert not regressed([1.0] * 7, [1.5] * 6 + [0.9], in_turn=True)
    assert regressed([1.0] * 8, [1.5] * 7 + [0.9], in_turn=True)
    assert not regressed([1.0] * 8, [0.9] * 7 + [90.0], in_turn=True)


def test_a_pair_needs_both_of_its_repeats() -> None:
    (found,) = compare({KEY: {0: 1.0, 1: 5.0}}, {KEY: {1: 5.0, 2: 9.0}}, lambda key: RULE, in_turn=True).rows
    assert (found.ratio, found.repeats) == (1, "one pair: no spread")


def test_repeats_of_different_hours_regress_only_if_their_ranges_do_not_overlap() -> None:
    assert regressed([1.0, 1.2], [1.6, 1.7])
    assert not regressed([1.0, 1.65], [1.6, 1.7])
    found = row([1.0, 1.25], [2.0, 2.5])
    assert (found.low, found.high) == (1.6, 2.5)


def test_single_repeats_are_judged_by_the_limit_alone() -> None:
    found = row([1.0], [1.2])
    assert found.regressed
    assert "no spread" in found.repeats
    assert not regressed([1.0], [1.2], Rule(1.3))


def test_a_small_change_is_not_a_regression_whatever_its_ratio() -> None:
    assert regressed([1.0, 1.0], [3.0, 3.0], Rule(1.1, 2))
    assert not regressed([1.0, 1.0], [3.0, 3.0], Rule(1.1, 2.1))


def test_from_nothing_to_something_is_infinitely_worse() -> None:
    assert ratio(0, 0) == 1
    assert ratio(0, 3) == float("inf")
    assert regressed([0.0, 0.0], [3.0, 4.0])


def test_what_must_never_happen_regresses_at_the_first_time() -> None:
    never = Rule(1.0, never=True)
    assert regressed([0, 0, 0], [0, 0, 1], never, in_turn=True)
    assert not regressed([1, 3], [2, 4], never)  # it happened before: this is noise
    assert regressed([1, 3], [4, 4], never)


def test_only_figures_that_both_have_are_judged() -> None:
    found = compare(
        {("x", "a"): {0: 1}, ("x", "b"): {0: 2}}, {("x", "b"): {0: 3}, ("x", "c"): {0: 4}}, lambda key: RULE
    )
    assert [(one.key, one.regressed) for one in found.rows] == [(("x", "b"), True)]
    assert (found.missing, found.new) == (("x: a",), ("x: c",))


def test_the_verdict_names_every_regression() -> None:
    file = io.StringIO()
    worse, same = row([10.0] * 4, [20.0] * 4), row([1.0], [1.0])
    print_comparison(Comparison((worse, same), ("a: b",), ("c: d",)), Console(file=file, width=140))
    for text in (
        "1 regressed of 2 figures",
        "50 sessions: overhead [p50], ms × 2.00",
        "4 and 4 repeats",
        "not in this run: a: b",
        "not in the baseline: c: d",
    ):
        assert text in file.getvalue()


# the baseline's file

KIND = Kind(
    "parley bench x",
    lambda result: {("x", str(at)): {0: value} for at, value in enumerate(result["values"])},
    lambda result: {"processor": result["cpu"]},
)
BASELINE: dict[str, Any] = {"date": "2026-11-21", "commit": "f962734", "cpu": "a", "values": [1.0]}


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "not JSON"), (b'{"date": "2026', "cut off"), (b"[]", "JSON list"), (b"\xff\xfe\x00", "not JSON"),
     (b"[" * 100_000, "not JSON"), (b"{}", "not a result of `parley bench x`"),
     (json.dumps(BASELINE | {"values": 5}).encode(), "older layout"), (json.dumps(BASELINE | {"date": 5}).encode(), "date"),
     (json.dumps(BASELINE | {"cpu": "b"}).encode(), "its processor is 'b', here it is 'a'"),
     (json.dumps(BASELINE | {"values": []}).encode(), "no figures")],
)  # fmt: skip
def test_a_baseline_that_does_not_fit_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"--compare {path}: .*{message}"):
        read_baseline(path, KIND, {"cpu": "a"}, tmp_path / "new.json")


def test_a_baseline_that_fits_is_read_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(BASELINE))
    assert read_baseline(path, KIND, {"cpu": "a"}, tmp_path / "new.json") == BASELINE
    with pytest.raises(ValueError, match="overwrite"):
        read_baseline(path, KIND, {"cpu": "a"}, path)
