"""When the pipeline has regressed: in turn with another checkout, against a result of another hour, and what fits neither."""

from typing import Any

import pytest

from benchmarks.compare import Comparison
from benchmarks.figures import MIB
from benchmarks.pipeline_compare import check_baseline, compare_apart, compare_in_turn

CPU_S = {"broker": 4.0, "vad": 6.0, "asr": 1.0, "edge": 6.0, "callers": 3.0}


def run(
    sessions: int = 50,
    repeat: int = 0,
    *,
    slow: float = 1,
    cpu: float = 1,
    edge: float = 1,
    big: float = 1,
    **more: Any,
) -> dict[str, Any]:
    """A run of 32 s; `cpu` makes all processes slower, the callers with them."""
    cpu_s = {name: spent * cpu for name, spent in CPU_S.items()}
    return {
        "sessions": sessions,
        "repeat": repeat,
        "window_s": 32.0,
        "cpu_s": cpu_s | {"edge": cpu_s["edge"] * edge},
        "busy_bytes": {"broker": 90 * MIB * big, "edge": 100 * MIB},
        "overhead_ms": {"n": 9, "p50": 10.0 * slow, "p95": 15.0, "p99": 20.0 * slow, "max": 30.0},
        "barge_ms": {"n": 9, "p50": 100.0, "p95": 110.0, "p99": 120.0, "max": 130.0},
        "counts": {"turns": 100},
        "errors": {},
    } | more


def runs(*, repeats: int = 4, **change: Any) -> list[dict[str, Any]]:
    return [run(50, repeat, **change) for repeat in range(repeats)]


def regressed(comparison: Comparison) -> set[str]:
    assert comparison.rows
    return {row.figure for row in comparison.regressions}


@pytest.mark.parametrize("compare", [compare_in_turn, compare_apart])
def test_nothing_regresses_against_itself_or_gets_worse_by_getting_better(compare: Any) -> None:
    assert not regressed(compare(runs(), runs()))
    assert not regressed(compare(runs(slow=3, cpu=3, big=3, errors={"x": 1}), runs()))


def test_in_turn_a_tenth_more_cpu_is_seen_for_all_and_for_the_process() -> None:
    assert regressed(compare_in_turn(runs(), runs(edge=1.2))) == {"CPU per session, %", "CPU of edge, %"}


def test_a_slow_hour_that_hits_both_is_no_regression() -> None:
    hours = (1.0, 1.4, 0.9, 1.3)
    other = [run(50, repeat, cpu=hour, slow=hour) for repeat, hour in enumerate(hours)]
    same = [run(50, repeat, cpu=hour * 1.01, slow=hour * 1.01) for repeat, hour in enumerate(hours)]
    worse = [run(50, repeat, cpu=hour, slow=hour * 1.2) for repeat, hour in enumerate(hours)]
    assert not regressed(compare_in_turn(other, same))
    assert regressed(compare_in_turn(other, worse)) == {"overhead p50, ms"}  # the tail has a wider limit


def test_the_same_code_an_hour_later_is_no_regression() -> None:
    """0.92 and 1.29 % were measured for one commit."""
    assert not regressed(compare_apart(runs(), runs(cpu=1.29 / 0.92, slow=1.3)))


def test_what_has_doubled_is_seen_across_hours() -> None:
    found = regressed(compare_apart(runs(), runs(edge=2.5, slow=2)))
    assert found == {"overhead p50, ms", "overhead p99, ms", "CPU per session, %", "CPU of edge, %"}


def test_a_machine_that_is_half_as_fast_is_seen_by_the_callers() -> None:
    assert not regressed(compare_apart(runs(), runs(cpu=2)))
    assert "CPU of edge, %" in regressed(compare_apart(runs(), runs(cpu=2, edge=2)))


def test_the_callers_themselves_never_regress() -> None:
    more = {"cpu_s": CPU_S | {"callers": 30.0}}
    assert not regressed(compare_in_turn(runs(), runs(**more)))


def test_memory_regresses_by_its_share_and_its_size() -> None:
    assert regressed(compare_apart(runs(), runs(big=1.2))) == {"memory of broker, MiB"}
    assert not regressed(compare_apart(runs(), runs(big=1.05)))


def test_ticks_of_the_clock_are_no_regression() -> None:
    """At two sessions, one tick of 10 ms more in 8 s is a sixteenth of a percent."""
    few = [run(2, repeat, window_s=8.0, cpu_s=CPU_S | {"asr": 0.03}) for repeat in range(2)]
    more = [run(2, repeat, window_s=8.0, cpu_s=CPU_S | {"asr": 0.045}) for repeat in range(2)]
    assert not regressed(compare_in_turn(few, more))
    many = [run(2, repeat, window_s=8.0, cpu_s=CPU_S | {"asr": 0.09}) for repeat in range(2)]
    assert regressed(compare_in_turn(few, many)) == {"CPU of asr, %"}


@pytest.mark.parametrize("compare", [compare_in_turn, compare_apart])
@pytest.mark.parametrize(
    "change",
    [{"errors": {"vad ended with exit code 1": 1}}, {"counts": {"lost_samples": 1}}, {"overhead_ms": {"n": 0}}],
)
def test_what_never_happened_may_not_happen_once(compare: Any, change: dict[str, Any]) -> None:
    now = [*runs(repeats=3), run(50, 3, **change)]
    assert regressed(compare(runs(), now)) == {"errors"}


def test_an_error_more_where_there_were_some_is_noise() -> None:
    before = [run(50, 0, errors={"x": 1}), run(50, 1, errors={"x": 3})]
    assert not regressed(compare_apart(before, [run(50, 0, errors={"x": 2}), run(50, 1, errors={"x": 4})]))
    assert regressed(compare_apart(before, [run(50, 0, errors={"x": 4}), run(50, 1, errors={"x": 4})])) == {"errors"}


def test_only_numbers_of_sessions_that_both_have_are_compared() -> None:
    found = compare_apart([run(1), run(50)], [run(50), run(100)])
    assert {row.entry for row in found.rows} == {"50 sessions"}
    assert not found.missing + found.new


def test_a_figure_that_one_lacks_is_named() -> None:
    found = compare_in_turn(runs(), runs(barge_ms={"n": 0}))
    assert found.missing == ("50 sessions: barge-in p50, ms", "50 sessions: barge-in p95, ms")


def test_pairs_need_no_figure_in_every_repeat() -> None:
    other = [run(50, 0, overhead_ms={"n": 0}), run(50, 1)]
    found = {row.figure: row for row in compare_in_turn(other, runs(repeats=2, slow=2)).rows}
    assert "one pair" in found["overhead p50, ms"].note
    apart = {row.figure: row for row in compare_in_turn(other, [run(50, 0), run(50, 1, overhead_ms={"n": 0})]).rows}
    assert apart["overhead p50, ms"].ratio == 1


# the baseline


HERE: dict[str, Any] = {"cpu": "a processor", "cores": 2, "endpoint_ms": 500, "settings": {}}
BASELINE: dict[str, Any] = HERE | {
    "date": "2026-11-21T03:34:05+00:00",
    "commit": "f962734",
    "figures": [],
    "runs": [run(1), run(50)],
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in BASELINE.items() if key != name}


def older(name: str) -> dict[str, Any]:
    """A baseline whose runs have no such field yet."""
    return BASELINE | {"runs": [{key: value for key, value in run().items() if key != name}]}


def test_a_baseline_that_fits_is_taken() -> None:
    check_baseline(BASELINE, HERE, (50, 100))
    check_baseline(without("settings"), HERE, (50,))


@pytest.mark.parametrize(
    ("baseline", "message"),
    [({}, "no result of `parley bench pipeline`"), ({"entries": [], "figures": []}, "no result"),
     (BASELINE | {"cpu": "another"}, "another processor: 'another', and this is 'a processor'"),
     (BASELINE | {"cores": 64}, "another number of cores: 64"), (BASELINE | {"endpoint_ms": 300}, "another endpoint"),
     (BASELINE | {"settings": {"PARLEY_GATHER_MS": "4"}}, "another set of settings"),
     (without("runs"), "older layout.*runs"), (older("window_s"), "older layout.*window_s"),
     (without("date"), "older layout.*date"), (BASELINE | {"runs": [run(window_s=0)]}, "older layout"),
     (BASELINE | {"runs": None}, "older layout"), (BASELINE | {"runs": ["x"]}, "older layout"),
     (BASELINE | {"runs": []}, "no run of 50, 100 sessions, but none"),
     (BASELINE | {"runs": [run(1), run(10)]}, "no run of 50, 100 sessions, but 1 sessions, 10 sessions")],
)  # fmt: skip
def test_a_baseline_that_does_not_fit_is_refused(baseline: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_baseline(baseline, HERE, (50, 100))
