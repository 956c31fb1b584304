"""From what sessions waited for to the engines' figures, and their comparison."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engines.comparison import compare_results
from benchmarks.engines.figures import TOKENS_PER_S, Piece, busy_s, figure, figures, verdicts


def piece(start_s: float, end_s: float, amount: float = 1, **times_ms: list[float]) -> Piece:
    return Piece(start_s, end_s, amount, times_ms)


def test_an_engine_is_busy_while_anybody_waits() -> None:
    assert busy_s([piece(5, 6), piece(0, 2), piece(1, 3), piece(1.5, 2)]) == pytest.approx(4)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20))
def test_busy_is_no_longer_than_the_whole_and_no_shorter_than_the_longest(spans: list[tuple[float, float]]) -> None:
    pieces = [piece(start, start + length) for start, length in spans]
    whole = max(one.end_s for one in pieces) - min(one.start_s for one in pieces)
    longest = max(one.end_s - one.start_s for one in pieces)
    assert longest - 1e-9 <= busy_s(pieces) <= whole + 1e-8


def test_a_figure_has_percentiles_over_all_and_the_mean_of_each_repetition() -> None:
    found = figure([[float(value) for value in range(1, 51)], [float(value) for value in range(51, 102)]])
    assert (found["n"], found["p50"], found["p95"], found["p99"]) == (101, 51, 96, 100)
    assert (found["mean"], found["max"], found["repeats"]) == (51, 101, [25.5, 76])
    assert figure([]) == {"n": 0}


def test_rates_come_from_the_time_that_an_engine_is_busy() -> None:
    together, staggered = [[piece(0, 2, 5), piece(0, 2, 5)]], [[piece(0, 1, 5), piece(3, 4, 5)]]
    asr = figures("asr", together, staggered)
    assert asr["rtf"]["mean"] == pytest.approx(0.2)
    assert asr["sessions"]["mean"] == pytest.approx(5)
    llm = figures("llm", together, staggered)
    assert llm["tokens_per_s"]["mean"] == pytest.approx(5)
    assert llm["sessions"]["mean"] == pytest.approx(5 / TOKENS_PER_S)


@pytest.mark.parametrize(("batch", "name", "limit_ms"), [(1, "final_ms", 40), (64, "staggered_total_ms", 300)])
def test_a_target_is_met_up_to_its_limit(batch: int, name: str, limit_ms: float) -> None:
    entry = {"stage": "chain", "batch": batch, "figures": {name: {"p95": limit_ms}}}
    assert verdicts(entry) == {name: True}
    entry["figures"] = {name: {"p95": limit_ms + 0.1}}
    assert verdicts(entry) == {name: False}
    assert verdicts({**entry, "batch": 7}) == verdicts({**entry, "stage": "asr"}) == {}


def result(memory_mb: float = 1000, **repeats: list[float]) -> dict[str, Any]:
    figures = {name: figure([[value] for value in values]) for name, values in repeats.items()}
    about = {"stage": "asr", "engine": "scripted", "model": "scripted", "batch": 4}
    return {"entries": [{**about, "memory": {"rss_mb": memory_mb}, "figures": figures}]}


@pytest.mark.parametrize(
    ("before", "now", "regressed"),
    [
        (result(final_ms=[100, 110]), result(final_ms=[118, 119]), False),  # less than a fifth
        (result(final_ms=[100, 110]), result(final_ms=[130, 140]), True),
        (result(final_ms=[100, 135]), result(final_ms=[130, 150]), False),  # the ranges overlap
        (result(sessions=[10, 11]), result(sessions=[15, 16]), False),  # more is better
        (result(sessions=[10, 11]), result(sessions=[7, 8]), True),
        (result(10), result(59), False),  # less than 50 MB
        (result(1000), result(1149), False),
        (result(1000), result(1151), True),
    ],
)
def test_engines_regress_by_a_fifth_and_memory_by_its_share_and_size(
    before: dict[str, Any], now: dict[str, Any], regressed: bool
) -> None:
    assert bool(compare_results(before, now).regressions) is regressed
