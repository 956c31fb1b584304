"""The pipeline's figures as samples for the comparison, and their rules.

The same code on the same machine took 0.92 and 1.29 % of a core an hour apart. So there are two sets of rules:

- results of different hours: wide limits, and the limits of CPU are multiplied by the growth of the callers' own CPU. The
  callers always do the same work, so their CPU shows how slow the machine was. This finds regressions of half or more;
- checkouts that ran in turn (`--against`): narrow limits, as each run is compared with its neighbour.

A share of CPU must also grow by at least five ticks of the clock that counts it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.compare import Comparison, Key, Kind, Rule, Samples, compare
from benchmarks.pipeline.figures import CALLERS, HARM, MIB

Runs = Sequence[Mapping[str, Any]]

LOAD = f"CPU of {CALLERS}, %"
ERRORS = "errors"
TICKS_S = 0.05
"""Smallest change of CPU time that counts: systems count CPU time in ticks of 10 ms."""
TYPICAL, TAIL, CPU, CPU_OF_ONE, MEMORY = "typical", "tail", "CPU", "CPU of one", "memory"

IN_TURN: Mapping[str, Rule] = {
    TYPICAL: Rule(1.10, 1.0),
    TAIL: Rule(1.25, 3.0),
    CPU: Rule(1.05, 0.02),
    CPU_OF_ONE: Rule(1.10, 0.02),
    MEMORY: Rule(1.10, 5.0),
}
"""`least` is in milliseconds, percent of a core per session, and MiB."""
HOURS_APART: Mapping[str, Rule] = {
    TYPICAL: Rule(1.40, 2.0),
    TAIL: Rule(1.60, 5.0),
    CPU: Rule(1.45, 0.05),
    CPU_OF_ONE: Rule(1.50, 0.05),
    MEMORY: Rule(1.10, 5.0),
}

_SAME = {"cpu": "processor", "cores": "number of cores", "endpoint_ms": "endpoint, ms", "settings": "set of settings"}


def label(sessions: int) -> str:
    return f"{sessions} sessions"


def samples_of(runs: Runs) -> dict[Key, dict[int, float]]:
    """Every figure of every number of sessions, a value for each run."""
    found: dict[Key, dict[int, float]] = {}
    for run in runs:
        for figure, value in _figures(run):
            found.setdefault((label(run["sessions"]), figure), {})[run["repeat"]] = float(value)
    return found


def _figures(run: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, kind, parts in (("overhead", "overhead_ms", ("p50", "p99")), ("barge-in", "barge_ms", ("p50", "p95"))):
        if run[kind]["n"]:
            yield from ((f"{name} {part}, ms", run[kind][part]) for part in parts)
    share = 100 / run["window_s"] / run["sessions"]
    cpu = {name: share * spent for name, spent in run["cpu_s"].items()}
    yield "CPU per session, %", sum(cpu.values()) - cpu[CALLERS]
    yield from ((f"CPU of {name}, %", percent) for name, percent in cpu.items())
    yield "memory, MiB", sum(run["busy_bytes"].values()) / MIB
    yield from ((f"memory of {name}, MiB", size / MIB) for name, size in run["busy_bytes"].items())
    silent = not run["overhead_ms"]["n"]  # no other count shows a run without any reply
    yield ERRORS, sum(run["counts"].get(name, 0) for name in HARM) + sum(run["errors"].values()) + silent


KIND = Kind(
    "parley bench pipeline",
    lambda result: samples_of(result["runs"]),
    lambda result: {what: result[name] for name, what in _SAME.items() if name in result},
)


def compare_runs(before: Runs, now: Runs, *, in_turn: bool) -> Comparison:
    """Compare the figures of each number of sessions that both have."""
    then, here = samples_of(before), samples_of(now)
    both = {entry for entry, _ in then} & {entry for entry, _ in here}
    then, here = ({key: found[key] for key in found if key[0] in both} for found in (then, here))
    drifts = {} if in_turn else _drifts(then, here)
    ticks: dict[str, float] = {}
    for run in (*before, *now):
        percent = 100 * TICKS_S / run["window_s"] / run["sessions"]
        ticks[label(run["sessions"])] = max(ticks.get(label(run["sessions"]), 0.0), percent)

    def rule_of(key: Key) -> Rule:
        entry, figure = key
        if figure == ERRORS:
            return Rule(1.0, never=True)
        if figure == LOAD:
            return Rule(float("inf"))
        kind = _kind(figure)
        rule = (IN_TURN if in_turn else HOURS_APART)[kind]
        if kind in (CPU, CPU_OF_ONE):
            return Rule(rule.limit * drifts.get(entry, 1.0), max(rule.least, ticks[entry]))
        return rule

    return compare(then, here, rule_of, in_turn=in_turn)


def _drifts(before: Samples, now: Samples) -> dict[str, float]:
    """Growth of the callers' CPU as a factor, at least 1, for each number of sessions."""
    callers = compare(before, now, lambda key: Rule(float("inf")))
    return {row.key[0]: max(1.0, row.ratio) for row in callers.rows if row.key[1] == LOAD}


def _kind(figure: str) -> str:
    if figure.startswith("CPU of"):
        return CPU_OF_ONE
    if figure.startswith("CPU"):
        return CPU
    if figure.startswith("memory"):
        return MEMORY
    return TYPICAL if "p50" in figure else TAIL
