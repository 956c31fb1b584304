"""Whether the pipeline got slower, larger or less right since a baseline. Values in, values out.

The rule is that of `benchmarks.compare`: a figure's ratio must exceed its limit, and the spread of its repeats. The
limits are of two kinds, because the same code on the same machine took 0.92 and 1.29 % of a core an hour apart:

- results of different hours: wide, and a CPU limit is widened by as much as the callers' own CPU grew, which are the
  same load and so tell how slow the machine was. This finds what has become half as dear again, and nothing finer;
- checkouts that ran in turn (`--against`): narrow, as each run is held against its neighbour.

A share of CPU must also have grown by five ticks of the clock that it is counted with.

What must never happen (lost sound, no reply, a process that died) is a regression as soon as it happens, where it
never did before.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.compare import Change, Comparison, Key, Row, Rule, apart, compare_all, paired, ratio
from benchmarks.figures import CALLERS, MIB
from benchmarks.report import HARM

Result = Mapping[str, Any]
Runs = Sequence[Mapping[str, Any]]
Repeats = Mapping[int, float]
"""A figure's value in each repeat that has one."""

LOAD = f"CPU of {CALLERS}, %"
ERRORS = "errors"
GRAIN_S = 0.05
"""Of CPU time in a run: systems count it in ticks of 10 ms."""
TYPICAL, TAIL, CPU, CPU_OF_ONE, MEMORY = "typical", "tail", "CPU", "CPU of one", "memory"

IN_TURN: Mapping[str, Rule] = {
    TYPICAL: Rule(1.10, 1.0),
    TAIL: Rule(1.25, 3.0),
    CPU: Rule(1.05, 0.02),
    CPU_OF_ONE: Rule(1.10, 0.02),
    MEMORY: Rule(1.10, 5.0),
}
"""Least: milliseconds, percent of a core per session, MiB."""
HOURS_APART: Mapping[str, Rule] = {
    TYPICAL: Rule(1.40, 2.0),
    TAIL: Rule(1.60, 5.0),
    CPU: Rule(1.45, 0.05),
    CPU_OF_ONE: Rule(1.50, 0.05),
    MEMORY: Rule(1.10, 5.0),
}

_SAME = {"cpu": "processor", "cores": "number of cores", "endpoint_ms": "endpoint, ms", "settings": "set of settings"}


def check_baseline(baseline: Result, here: Result, sessions: Sequence[int]) -> None:
    """Whether a run of so many sessions under these circumstances can be held against it.

    Raises:
        ValueError: not; the message says why.
    """
    if "entries" in baseline or "figures" not in baseline or "endpoint_ms" not in baseline:
        raise ValueError("the baseline is no result of `parley bench pipeline`")
    for name, what in _SAME.items():
        if name in baseline and baseline[name] != here[name]:
            raise ValueError(f"the baseline is of another {what}: {baseline[name]!r}, and this is {here[name]!r}")
    try:
        found = {entry for entry, _ in _collect(baseline["runs"])}
        if not (isinstance(baseline["commit"], str) and isinstance(baseline["date"], str)):
            raise TypeError("commit and date")
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"the baseline has an older layout, or is damaged ({error!r}): measure that commit again, or in turn "
            "with this one, by --against"
        ) from error
    if found.isdisjoint(map(_label, sessions)):
        raise ValueError(
            f"the baseline has no run of {', '.join(map(str, sessions))} sessions, but {', '.join(sorted(found)) or 'none'}"
        )


def compare_apart(baseline: Runs, current: Runs) -> Comparison:
    """Runs of different hours, for each number of sessions that both have."""
    before, now = _common(baseline, current)
    grains = _grains([*baseline, *current])

    def judge(key: Key, then: Repeats, here: Repeats) -> Row:
        if key[1] == ERRORS:
            return _errors_row(key, then, here)
        change = apart([*then.values()], [*here.values()])
        drift = 1.0
        if (load := (key[0], LOAD)) in before and load in now:
            drift = max(drift, apart([*before[load].values()], [*now[load].values()]).ratio)
        return _row(key, change, HOURS_APART, grains, drift)

    return compare_all(before, now, judge)


def compare_in_turn(other: Runs, current: Runs) -> Comparison:
    """Runs of two checkouts that took turns: each repeat against the same repeat of the other."""
    grains = _grains([*other, *current])

    def judge(key: Key, then: Repeats, here: Repeats) -> Row:
        if key[1] == ERRORS:
            return _errors_row(key, then, here)
        both = sorted(then.keys() & here.keys())
        if not both:  # no repeat in which both had it
            return _row(key, apart([*then.values()], [*here.values()]), IN_TURN, grains)
        return _row(key, paired([then[at] for at in both], [here[at] for at in both]), IN_TURN, grains)

    return compare_all(*_common(other, current), judge)


def _row(key: Key, change: Change, rules: Mapping[str, Rule], grains: Mapping[str, float], drift: float = 1.0) -> Row:
    if key[1] == LOAD:
        return change.row(key, Rule(float("inf")))
    kind = _kind(key[1])
    rule = rules[kind]
    if kind in (CPU, CPU_OF_ONE):
        rule = Rule(rule.limit * drift, max(rule.least, grains[key[0]]))
    return change.row(key, rule)


def _grains(runs: Runs) -> dict[str, float]:
    """For each number of sessions, the CPU share that is not told apart from none."""
    found: dict[str, float] = {}
    for run in runs:
        label = _label(run["sessions"])
        found[label] = max(found.get(label, 0.0), 100 * GRAIN_S / run["window_s"] / run["sessions"])
    return found


def _errors_row(key: Key, then: Repeats, here: Repeats) -> Row:
    """One that never happened before decides at once; where they did, all repeats must have more."""
    if any(then.values()):
        return apart([*then.values()], [*here.values()]).row(key, Rule(1.0))
    total = sum(here.values())
    return Row(*key, 0.0, total, ratio(0.0, total), regressed=total > 0, note="in all repeats")


def _kind(figure: str) -> str:
    if figure.startswith("CPU of"):
        return CPU_OF_ONE
    if figure.startswith("CPU"):
        return CPU
    if figure.startswith("memory"):
        return MEMORY
    return TYPICAL if "p50" in figure else TAIL


def _common(before: Runs, now: Runs) -> tuple[dict[Key, Repeats], dict[Key, Repeats]]:
    """The figures of both, for the numbers of sessions that both have: another number is no figure that is missing."""
    then, here = _collect(before), _collect(now)
    entries = {entry for entry, _ in then} & {entry for entry, _ in here}
    return tuple({key: found[key] for key in found if key[0] in entries} for found in (then, here))  # type: ignore[return-value]


def _collect(runs: Runs) -> dict[Key, dict[int, float]]:
    found: dict[Key, dict[int, float]] = {}
    for run in runs:
        for figure, value in _figures(run):
            found.setdefault((_label(run["sessions"]), figure), {})[run["repeat"]] = float(value)
    return found


def _label(sessions: int) -> str:
    return f"{sessions} sessions"


def _figures(run: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, kind, parts in (("overhead", "overhead_ms", ("p50", "p99")), ("barge-in", "barge_ms", ("p50", "p95"))):
        if run[kind]["n"]:
            yield from ((f"{name} {part}, ms", run[kind][part]) for part in parts)
    share = 100 / run["window_s"] / run["sessions"]
    cpu = {name: share * spent for name, spent in run["cpu_s"].items()}
    yield "CPU per session, %", sum(cpu.values()) - cpu[CALLERS]
    yield from ((f"CPU of {name}, %", percent) for name, percent in cpu.items())
    yield from ((f"memory of {name}, MiB", size / MIB) for name, size in run["busy_bytes"].items())
    silent = not run["overhead_ms"]["n"]  # no reply at all is counted nowhere else
    yield ERRORS, sum(run["counts"].get(name, 0) for name in HARM) + sum(run["errors"].values()) + silent
