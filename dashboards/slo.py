"""The SLOs, and the burn rates of their error budgets that raise alerts.

An SLO's error budget is the share of events that may be bad over 30 days. A burn rate of 1 spends exactly the budget;
a burn rate of 14.4 spends 2 % of it per hour (Google SRE Workbook, chapter 5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from prometheus_client import Histogram

from dashboards import promql
from shared.observability import metrics

TURN_LATENCY_S = 0.8
BARGE_IN_S = 0.2


@dataclass(frozen=True, slots=True)
class Slo:
    """A service-level objective."""

    name: str
    """The label `slo` of its rules."""
    alert: str
    objective: float
    """Share of events that must be good."""
    errors: Callable[..., str]
    """Expression: share of bad events within a window, for some labels; NaN or no value without events."""
    events: Callable[[str], str]
    """Expression: number of events within a window."""
    least: int
    """Minimum number of events in a window for the share to be meaningful."""
    broken: str
    """The end of a sentence that begins with the share of bad events."""
    summary: str
    dashboard: str

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1 - self.objective, 6)


@dataclass(frozen=True, slots=True)
class Burn:
    """A burn rate that raises an alert if both the long and the short window exceed it."""

    severity: str
    factor: float
    long: str
    short: str


BURNS = (
    Burn("page", 14.4, "1h", "5m"),
    Burn("page", 6, "6h", "30m"),
    Burn("ticket", 3, "1d", "2h"),
    Burn("ticket", 1, "3d", "6h"),
)
SHORT_WINDOWS = ("5m", "30m", "1h", "2h", "6h")
LONG_WINDOWS = ("1d", "3d")
"""Windows that are evaluated less often: they are expensive and change slowly."""


def threshold(slo: Slo, burn: Burn) -> float:
    """Return the share of bad events at the burn rate."""
    return round(burn.factor * slo.budget, 6)


def burns(slo: Slo) -> tuple[Burn, ...]:
    """Return the burn rates that are possible: those below a share of 1."""
    return tuple(burn for burn in BURNS if threshold(slo, burn) < 1)


def least_events(slo: Slo, burn: Burn) -> int:
    """Return the minimum number of events in the long window: one bad event must not raise the alert."""
    return max(slo.least, ceil(round(1 / threshold(slo, burn), 6)))


def recorded_errors(slo: Slo, window: str) -> str:
    return f'{errors_record(window)}{{slo="{slo.name}"}}'


def recorded_events(slo: Slo, window: str) -> str:
    return f'{events_record(window)}{{slo="{slo.name}"}}'


def errors_record(window: str) -> str:
    return f"parley:slo_errors:ratio_rate{window}"


def events_record(window: str) -> str:
    return f"parley:slo_events:increase{window}"


def _late(histogram: Histogram, limit_s: float) -> Callable[..., str]:
    return lambda window, **labels: f"1 - {promql.share_within(histogram, limit_s, window, **labels)}"


def _observed(histogram: Histogram) -> Callable[[str], str]:
    return lambda window: f"sum(increase({promql.series(histogram, '_count')}[{window}]))"


def _failed_turns(window: str, **labels: str) -> str:
    # A counter without events has no series: without the 0, the share would have no value before the first failure.
    failed = promql.rate(metrics.turns_total, window, outcome="failed", **labels)
    return f"({failed} or vector(0)) / {promql.rate(metrics.turns_total, window, **labels)}"


def _refused_sessions(window: str, **labels: str) -> str:
    refused = f"({promql.rate(metrics.sessions_refused, window, **labels)} or vector(0))"
    served = f"({promql.rate(metrics.sessions_total, window, **labels)} or vector(0))"
    return f"{refused} / ({refused} + {served})"


def _sessions(window: str) -> str:
    refused = promql.increase(metrics.sessions_refused, window)
    served = promql.increase(metrics.sessions_total, window)
    return f"({refused} or vector(0)) + ({served} or vector(0))"


SLOS = (
    Slo(
        name="turn-latency",
        alert="TurnLatencyBudget",
        objective=0.95,
        errors=_late(metrics.turn_latency, TURN_LATENCY_S),
        events=_observed(metrics.turn_latency),
        least=30,
        broken=f"of the replies began later than {TURN_LATENCY_S:g} s after the end of speech",
        summary="Replies are too slow",
        dashboard="parley-overview",
    ),
    Slo(
        name="turn-success",
        alert="TurnSuccessBudget",
        objective=0.995,
        errors=_failed_turns,
        events=lambda window: promql.increase(metrics.turns_total, window),
        least=30,
        broken="of the turns failed",
        summary="Too many turns fail",
        dashboard="parley-overview",
    ),
    Slo(
        name="barge-in",
        alert="BargeInBudget",
        objective=0.99,
        errors=_late(metrics.barge_in, BARGE_IN_S),
        events=_observed(metrics.barge_in),
        least=10,
        broken=f"of the interrupted replies took longer than {BARGE_IN_S:g} s to fall silent",
        summary="Replies continue while callers speak",
        dashboard="parley-edge",
    ),
    Slo(
        name="session-setup",
        alert="SessionSetupBudget",
        objective=0.995,
        errors=_refused_sessions,
        events=_sessions,
        least=10,
        broken="of the sessions were refused",
        summary="Too many sessions are refused",
        dashboard="parley-edge",
    ),
)
