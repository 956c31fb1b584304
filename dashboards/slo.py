"""What callers are promised: the table of SLOs, and how fast each of their error budgets may burn.

An SLO allows a share of bad events over 30 days: its budget. A burn rate of 1 spends exactly that; 14.4 spends a
fiftieth of it within an hour.
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
    """One promise."""

    name: str
    """The label `slo` of its rules."""
    alert: str
    objective: float
    """Share of good events that is promised."""
    errors: Callable[[str], str]
    """Expression: share of bad events within a window. No events: NaN, or nothing."""
    events: Callable[[str], str]
    """Expression: number of events within a window."""
    least: int
    """In a window with fewer events than this, no share means anything."""
    broken: str
    """What happened to the bad share of events, as a sentence goes on after it."""
    summary: str
    dashboard: str

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1 - self.objective, 6)


@dataclass(frozen=True, slots=True)
class Burn:
    """A speed of burning at which somebody is told: seen over the long window, and still so in the short one."""

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
"""Of these, the shares are taken less often: they are dear, and change slowly."""


def threshold(slo: Slo, burn: Burn) -> float:
    """Share of bad events that the burn rate stands for."""
    return round(burn.factor * slo.budget, 6)


def burns(slo: Slo) -> tuple[Burn, ...]:
    """Those that can happen: no more than all events can be bad."""
    return tuple(burn for burn in BURNS if threshold(slo, burn) < 1)


def least_events(slo: Slo, burn: Burn) -> int:
    """Events within the long window above which the burn is believed: so many that one bad one is not enough for it."""
    return max(slo.least, ceil(round(1 / threshold(slo, burn), 6)))


def recorded_errors(slo: Slo, window: str) -> str:
    """Selector of the recorded share of bad events."""
    return f'{errors_record(window)}{{slo="{slo.name}"}}'


def recorded_events(slo: Slo, window: str) -> str:
    """Selector of the recorded number of events."""
    return f'{events_record(window)}{{slo="{slo.name}"}}'


def errors_record(window: str) -> str:
    return f"parley:slo_errors:ratio_rate{window}"


def events_record(window: str) -> str:
    return f"parley:slo_events:increase{window}"


def _late(histogram: Histogram, limit_s: float) -> Callable[[str], str]:
    return lambda window: f"1 - {promql.share_within(histogram, limit_s, window)}"


def _observed(histogram: Histogram) -> Callable[[str], str]:
    return lambda window: f"sum(increase({promql.series(histogram, '_count')}[{window}]))"


def _failed_turns(window: str) -> str:
    # A counter that never counted is not there: without a failure there would be no share, and not a share of 0.
    failed = promql.rate(metrics.turns_total, window, outcome="failed")
    return f"({failed} or vector(0)) / {promql.rate(metrics.turns_total, window)}"


def _refused_sessions(window: str) -> str:
    refused = f"({promql.rate(metrics.sessions_refused, window)} or vector(0))"
    served = f"({promql.rate(metrics.sessions_total, window)} or vector(0))"
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
        summary="Callers wait too long for replies",
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
        summary="Callers get no reply",
        dashboard="parley-overview",
    ),
    Slo(
        name="barge-in",
        alert="BargeInBudget",
        objective=0.99,
        errors=_late(metrics.barge_in, BARGE_IN_S),
        events=_observed(metrics.barge_in),
        least=10,
        broken=f"of the replies that were spoken into fell silent later than after {BARGE_IN_S:g} s",
        summary="Replies go on while callers speak",
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
        summary="Callers are turned away",
        dashboard="parley-edge",
    ),
)
