"""Runs, their figures over all repeats, and the targets. Values in, values out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from statistics import fmean
from typing import Any

from benchmarks.figures import summary

MIB = 1 << 20
CALLERS = "callers"
"""The process that generates the load. It is not part of the measured system."""
HARM = ("lost_samples", "doubled_samples", "late_samples", "unanswered", "unexpected_replies", "not_interrupted")
"""Counts that must be 0."""


@dataclass(slots=True)
class Run:
    """One run of N callers."""

    sessions: int
    repeat: int
    broker: str = ""
    window_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds of each process, user and system, while plain turns were played."""
    machine_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds of the whole machine in that time: `busy` by all processes, `steal` by other machines on the same hardware."""
    idle_bytes: dict[str, int] = field(default_factory=dict)
    """Resident memory of each process before the first caller."""
    busy_bytes: dict[str, int] = field(default_factory=dict)
    overhead_ms: list[float] = field(default_factory=list)
    barge_ms: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    send_lateness_ms: dict[str, float] = field(default_factory=dict)
    """Delay of the callers' frames. No figure is more precise than this."""

    @property
    def cpu_percent(self) -> dict[str, float]:
        """Share of one core that each process takes per session."""
        return {name: 100 * spent / self.window_s / self.sessions for name, spent in self.cpu_s.items()}

    @property
    def disturbance_percent(self) -> float:
        """CPU used by other processes and by other machines on the same hardware, in percent of a core: it makes runs differ."""
        others_s = self.machine_s["busy"] - sum(self.cpu_s.values()) + self.machine_s["steal"]
        return max(0.0, 100 * others_s / self.window_s)

    def figures(self) -> dict[str, Any]:
        """The run as in the result: with percentiles instead of single values."""
        return asdict(self) | {"overhead_ms": summary(self.overhead_ms), "barge_ms": summary(self.barge_ms)}


@dataclass(frozen=True, slots=True)
class Target:
    """Targets for a machine with two cores, callers included."""

    p50_ms: float
    p99_ms: float
    cpu_percent: float


TARGETS = {50: Target(10, 25, 1.2), 100: Target(15, 50, 1.0)}
BARGE_TARGET_MS = 140


def digest(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The figures for each number of sessions, over all its repeats."""
    ordered = sorted(runs, key=lambda run: run.sessions)
    return [_digest(sessions, list(same)) for sessions, same in groupby(ordered, key=lambda run: run.sessions)]


def _digest(sessions: int, runs: Sequence[Run]) -> dict[str, Any]:
    cpu = {name: fmean([run.cpu_percent[name] for run in runs]) for name in runs[0].cpu_s}
    idle = {name: fmean([run.idle_bytes[name] for run in runs]) / MIB for name in runs[0].idle_bytes}
    busy = {name: fmean([run.busy_bytes[name] for run in runs]) / MIB for name in runs[0].busy_bytes}
    repeats = [figures for run in runs if (figures := summary(run.overhead_ms))["n"]]
    return {
        "sessions": sessions,
        "overhead_ms": summary([value for run in runs for value in run.overhead_ms]),
        "spread_ms": {
            name: [min(one[name] for one in repeats), max(one[name] for one in repeats)] if repeats else []
            for name in ("p50", "p99")
        },
        "barge_ms": summary([value for run in runs for value in run.barge_ms]),
        "disturbance_percent": max(run.disturbance_percent for run in runs),
        "callers_late_ms": max(run.send_lateness_ms.get("p99", 0.0) for run in runs),
        "cpu_percent": cpu,
        "cpu_percent_total": sum(share for name, share in cpu.items() if name != CALLERS),
        "mib_idle": idle,
        "mib_per_session": {name: (busy[name] - idle[name]) / sessions for name in idle},
        "counts": dict(sum((Counter(run.counts) for run in runs), Counter[str]())),
        "errors": dict(sum((Counter(run.errors) for run in runs), Counter[str]())),
    }
