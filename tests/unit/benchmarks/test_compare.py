"""The rule by which a figure has regressed, and what is no baseline."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.compare import Comparison, Row, Rule, apart, compare_all, paired, print_comparison, ratio, read_result

values = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20)
RULE = Rule(1.1)


@given(values)
def test_nothing_regresses_against_itself(found: list[float]) -> None:
    for change in (apart(found, found), paired(found, found)):
        assert change.ratio == 1
        assert not change.breaks(Rule(1.0))


@given(values, st.floats(1.2, 100))
def test_pairs_of_which_each_is_worse_regress_however_far_they_drift(found: list[float], by: float) -> None:
    change = paired(found, [value * by for value in found])
    assert change.ratio == pytest.approx(by)
    assert change.breaks(RULE)


def test_one_pair_that_got_better_is_enough_to_doubt_the_others() -> None:
    assert paired([1, 1, 1], [1.5, 1.5, 1.5]).breaks(RULE)
    assert not paired([1, 1, 1], [1.5, 1.5, 0.9]).breaks(RULE)


def test_of_eight_pairs_one_may_be_disturbed() -> None:
    assert not paired([1.0] * 7, [1.5] * 6 + [0.9]).breaks(RULE)
    assert paired([1.0] * 8, [1.5] * 7 + [0.9]).breaks(RULE)
    assert not paired([1.0] * 8, [1.5] * 6 + [0.9] * 2).breaks(RULE)
    assert not paired([1.0] * 8, [0.9] * 7 + [90.0]).breaks(RULE)


def test_repeats_of_different_hours_regress_only_where_their_ranges_part() -> None:
    assert apart([1.0, 1.2], [1.6, 1.7]).breaks(RULE)
    assert not apart([1.0, 1.65], [1.6, 1.7]).breaks(RULE)
    change = apart([1.0, 1.25], [2.0, 2.5])
    assert (change.low, change.high) == (1.6, 2.5)


def test_single_repeats_are_judged_by_the_limit_and_said_to_be_single() -> None:
    change = apart([1.0], [1.2])
    assert change.breaks(RULE)
    assert not change.breaks(Rule(1.3))
    assert "no spread" in change.told
    assert "no spread" in paired([1.0], [1.2]).told
    assert "no spread" not in apart([1.0], [1.2, 1.3]).told


def test_what_is_small_is_no_regression_however_large_its_ratio() -> None:
    change = paired([1.0, 1.0], [3.0, 3.0])
    assert change.breaks(Rule(1.1, 2))
    assert not change.breaks(Rule(1.1, 2.1))


def test_from_nothing_to_something_is_infinitely_worse() -> None:
    assert ratio(0, 0) == 1
    assert ratio(0, 3) == float("inf")
    assert apart([0.0, 0.0], [3.0, 4.0]).breaks(RULE)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


# the baseline's file


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b" \n", "empty"), (b'{"date": "2026', "cut off"), (b"[]", "JSON list"), (b"null", "NoneType"),
     (b"\xff\xfe\x00", "no JSON"), (b"[" * 100_000, "no JSON"), (b'{"a": 1}{"a": 1}', "no JSON")],
)  # fmt: skip
def test_what_is_no_result_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_result(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read_result(tmp_path / "none.json")
    with pytest.raises(ValueError, match="directory"):
        read_result(tmp_path)


def test_a_result_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"figures": [1]}')
    assert read_result(path) == {"figures": [1]}


# the table


def shown(comparison: Comparison) -> str:
    file = io.StringIO()
    print_comparison(comparison, Console(file=file, width=140))
    return file.getvalue()


def test_the_verdict_names_every_regression() -> None:
    row = Row("50 sessions", "overhead [p50], ms", 10.0, 20.0, 2.0, regressed=True, note="1.90–2.10 4 pairs")
    told = shown(Comparison((row, Row("50 sessions", "errors", 0, 0, 1.0, regressed=False)), ("a: b",), ("c: d",)))
    assert "1 regressed of 2 figures" in told
    assert "50 sessions: overhead [p50], ms × 2.00" in told
    assert "1.90–2.10 4 pairs" in told
    assert "not in this run: a: b" in told
    assert "not in the baseline: c: d" in told
    assert "no regression of 0 figures" in shown(Comparison((), (), ()))


def test_only_what_both_have_is_judged() -> None:
    found = compare_all({("x", "a"): 1, ("x", "b"): 2}, {("x", "b"): 3, ("x", "c"): 4},
                        lambda key, before, now: Row(*key, before, now, now / before, regressed=now > before))  # fmt: skip
    assert found.regressions == found.rows == (Row("x", "b", 2, 3, 1.5, regressed=True),)
    assert (found.missing, found.new) == (("x: a",), ("x: c",))
