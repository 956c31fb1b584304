"""What the engines' benchmark makes of its figures: percentiles, rates, the comparison with a baseline, the profile."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine_compare import MEMORY_LEAST_MB, compare
from benchmarks.engine_figures import HIGHER, TOKENS_PER_S, Piece, busy_s, figure, figures, verdicts
from benchmarks.engine_profile import NO_TORCH, bottleneck, idle_share, most_expensive


def piece(start_s: float, end_s: float, amount: float = 1, **times_ms: list[float]) -> Piece:
    return Piece(start_s, end_s, amount, times_ms)


def test_an_engine_is_busy_while_anybody_waits() -> None:
    assert busy_s([piece(5, 6), piece(0, 2), piece(1, 3), piece(1.5, 2)]) == pytest.approx(4)


def test_work_that_took_no_time_divides_by_nothing() -> None:
    assert busy_s([]) > 0
    assert figures("asr", [[piece(1, 1)]], [[piece(1, 1)]])["sessions"]["mean"] > 1e6


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20))
def test_busy_is_no_longer_than_the_whole_and_no_shorter_than_the_longest(spans: list[tuple[float, float]]) -> None:
    pieces = [piece(start, start + length) for start, length in spans]
    whole = max(one.end_s for one in pieces) - min(one.start_s for one in pieces)
    longest = max(one.end_s - one.start_s for one in pieces)
    assert longest - 1e-9 <= busy_s(pieces) <= whole + 1e-8


def test_a_figure_has_its_percentiles_and_its_worst_end() -> None:
    times = figure([float(value) for value in range(1, 102)], "final_ms")
    assert (times["n"], times["p50"], times["p95"], times["p99"]) == (101, 51, 96, 100)
    assert (times["mean"], times["max"], times["worst"], times["better"]) == (51, 101, 101, "lower")
    rates = figure([2.0, 4.0], "tokens_per_s")
    assert (rates["mean"], rates["worst"], rates["better"]) == (3, 2, "higher")
    assert figure([], "final_ms") == {"n": 0, "better": "lower"}


def test_rates_come_from_the_time_that_an_engine_is_busy() -> None:
    together, staggered = [[piece(0, 2, 5), piece(0, 2, 5)]], [[piece(0, 1, 5), piece(3, 4, 5)]]
    heard = figures("asr", together, staggered)
    assert heard["rtf"]["mean"] == pytest.approx(0.2)
    assert heard["sessions"]["mean"] == pytest.approx(5)
    thought = figures("llm", together, staggered)
    assert thought["tokens_per_s"]["mean"] == pytest.approx(5)
    assert thought["sessions"]["mean"] == pytest.approx(5 / TOKENS_PER_S)


@pytest.mark.parametrize(("batch", "name", "limit_ms"), [(1, "final_ms", 40), (64, "staggered_total_ms", 300)])
def test_a_target_is_met_up_to_its_limit(batch: int, name: str, limit_ms: float) -> None:
    entry = {"stage": "chain", "batch": batch, "figures": {name: {"p95": limit_ms}}}
    assert verdicts(entry) == {name: True}
    entry["figures"] = {name: {"p95": limit_ms + 0.1}}
    assert verdicts(entry) == {name: False}
    assert verdicts({**entry, "batch": 7}) == verdicts({**entry, "stage": "asr"}) == {}


# the comparison


def result(values: dict[str, list[float]], memory_mb: float = 1000) -> dict[str, Any]:
    return {
        "device": {"name": "a device"},
        "size": "tiny",
        "seconds": 5.0,
        "entries": [
            {"stage": "asr", "engine": "scripted", "model": "scripted", "batch": 4, "memory": {"rss_mb": memory_mb},
             "figures": {name: figure(found, name) for name, found in values.items()}},
        ],
    }  # fmt: skip


def scaled(values: dict[str, list[float]], by: float) -> dict[str, list[float]]:
    """So much worse."""
    return {
        name: [value / by if name in HIGHER else value * by for value in found] for name, found in values.items()
    }  # fmt: skip


some_values = st.dictionaries(
    st.sampled_from(["final_ms", "rtf", "sessions", "tokens_per_s"]),
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8),
    min_size=1,
)
memories = st.floats(0, 1e5)


@given(some_values, memories)
def test_nothing_regresses_against_itself(values: dict[str, list[float]], memory_mb: float) -> None:
    found = compare(result(values, memory_mb), result(values, memory_mb))
    assert found.rows
    assert all(row.ratio == 1 and row.note in ("worst × 1.00", "") for row in found.rows)
    assert not found.regressions + found.missing + found.new


@given(some_values, memories, st.floats(0.3, 1.1))
def test_a_tenth_worse_is_no_regression(values: dict[str, list[float]], memory_mb: float, by: float) -> None:
    assert not compare(result(values, memory_mb), result(scaled(values, by), memory_mb * by)).regressions


@given(some_values, st.floats(2.1 * MEMORY_LEAST_MB, 1e5), st.floats(1.5, 10))
def test_half_as_much_again_is_one(values: dict[str, list[float]], memory_mb: float, by: float) -> None:
    found = compare(result(values, memory_mb), result(scaled(values, by), memory_mb * by))
    assert found.regressions == found.rows
    assert len(found.rows) == len(values) + 1


def test_one_outlier_regresses_only_beyond_its_own_limit() -> None:
    before = result({"final_ms": [100.0] * 9 + [110.0]})
    assert not compare(before, result({"final_ms": [100.0] * 9 + [159.0]})).regressions
    assert compare(before, result({"final_ms": [100.0] * 9 + [160.0]})).regressions


def test_a_little_memory_is_no_regression_however_large_its_ratio() -> None:
    assert not compare(result({}, 10), result({}, 59)).regressions
    assert not compare(result({}, 1000), result({}, 1149)).regressions
    assert compare(result({}, 1000), result({}, 1151)).regressions
    assert compare(result({}, 0), result({}, 50)).regressions


def test_what_only_one_of_them_has_is_listed() -> None:
    before, now = result({"final_ms": [1.0], "rtf": [1.0]}), result({"final_ms": [1.0], "sessions": [1.0]})
    found = compare(before, now)
    assert found.missing == ("asr scripted (scripted) × 4: rtf",)
    assert found.new == ("asr scripted (scripted) × 4: sessions",)
    assert not found.regressions


@pytest.mark.parametrize(
    ("change", "message"),
    [({"device": {"name": "another"}}, "another device"), ({"size": "full"}, "another size"),
     ({"seconds": 2.0}, "another seconds"), ({"entries": [{}]}, "no result"), ({"device": None}, "no result")],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(result({"rtf": [1.0]}) | change, result({"rtf": [1.0]}))


# the profile


def operation(name: str, cpu_ms: float, device_ms: float = 0) -> dict[str, Any]:
    return {"name": name, "calls": 1, "cpu_ms": cpu_ms, "device_ms": device_ms}


def test_the_bottleneck_is_the_largest_share() -> None:
    operations = [operation("mm", 3, 10), operation("launch", 9, 0), operation("add", 4, 30)]
    assert bottleneck(operations, None) == "launch takes 56 % of the processor's time."
    assert "add takes 75 % of the device's time; the device is idle for 80 %" in bottleneck(operations, 0.8)
    assert "waits for Python" in bottleneck(operations, 0.8)
    assert "waits for Python" not in bottleneck(operations, 0.1)
    assert bottleneck([], None) == NO_TORCH
    assert [one["name"] for one in most_expensive(operations)] == ["add", "mm", "launch"]
    assert len(most_expensive(operations * 9)) == 10


def test_idle_is_the_time_between_kernels() -> None:
    assert idle_share([(6, 10), (0, 2), (1, 3)]) == pytest.approx(0.3)
    assert idle_share([]) == 1
    assert idle_share([(1, 1)]) == 0
