"""Callers that are served well and badly, and which of the four alerts of each SLO that makes fire."""

from dataclasses import dataclass

from tests.unit.dashboards.scenario import Fired, Scenario, counts

Phases = tuple[tuple[float, float, int], ...]
"""Good events a minute, bad ones, for so many minutes."""

BURNS = {"1h": ("page", 14.4), "6h": ("page", 6.0), "1d": ("ticket", 3.0), "3d": ("ticket", 1.0)}
BAD_MINUTES, GOOD_MINUTES = 10, 6


@dataclass(frozen=True)
class Promise:
    alert: str
    slo: str
    budget: float
    good: tuple[str, ...]
    """Series that count good events; they are shared out evenly."""
    bad: str | None
    whole: str | None
    """The series that counts all, where there is one: then the good ones are within it."""
    least: int
    what: str

    def series(self, phases: Phases) -> dict[str, str]:
        each = len(self.good)
        series = {one: counts(*((good / each, minutes) for good, _, minutes in phases)) for one in self.good}
        if self.bad is not None:
            series[self.bad] = counts(*((bad, minutes) for _, bad, minutes in phases))
        if self.whole is not None:
            series[self.whole] = counts(*((good + bad, minutes) for good, bad, minutes in phases))
        return series

    def fired(self, share: float, windows: tuple[str, ...]) -> list[Fired]:
        return [self._fired(share, window) for window in windows]

    def _fired(self, share: float, window: str) -> Fired:
        severity, factor = BURNS[window]
        return (
            {"severity": severity, "slo": self.slo, "window": window},
            (
                f"{100 * share:.4g}% {self.what}, in the last {window}. {100 * self.budget:g} % may, over 30 days: "
                f"this is more than {factor:g} times as fast."
            ),
        )


TURN_LATENCY = Promise(
    "TurnLatencyBudget",
    "turn-latency",
    0.05,
    ('parley_turn_latency_seconds_bucket{protocol="stream", le="0.8"}',),
    None,
    'parley_turn_latency_seconds_count{protocol="stream"}',
    30,
    "of the replies began later than 0.8 s after the end of speech",
)
TURN_SUCCESS = Promise(
    "TurnSuccessBudget",
    "turn-success",
    0.005,
    tuple(f'parley_turns_total{{outcome="{outcome}"}}' for outcome in ("completed", "interrupted", "empty")),
    'parley_turns_total{outcome="failed"}',
    None,
    30,
    "of the turns failed",
)
BARGE_IN = Promise(
    "BargeInBudget",
    "barge-in",
    0.01,
    ('parley_barge_in_seconds_bucket{protocol="stream", le="0.2"}',),
    None,
    'parley_barge_in_seconds_count{protocol="stream"}',
    10,
    "of the replies that were spoken into fell silent later than after 0.2 s",
)
SESSION_SETUP = Promise(
    "SessionSetupBudget",
    "session-setup",
    0.005,
    tuple(f'parley_sessions_total{{protocol="stream", outcome="{outcome}"}}' for outcome in ("left", "closed")),
    'parley_sessions_refused_total{reason="unavailable"}',
    None,
    10,
    "of the sessions were refused",
)
PROMISES = (TURN_LATENCY, TURN_SUCCESS, BARGE_IN, SESSION_SETUP)


def burning(promise: Promise, share: float, *windows: str) -> Scenario:
    """This share is bad for 10 minutes; afterwards all is good, and there is much of it."""
    phases = ((100 * (1 - share), 100 * share, BAD_MINUTES), (100_000, 0, GOOD_MINUTES))
    end = BAD_MINUTES + GOOD_MINUTES
    return Scenario(promise.alert, promise.series(phases), {BAD_MINUTES: promise.fired(share, windows), end: ()})


def scenarios_of(promise: Promise) -> list[Scenario]:
    """One burn rate after the other sets in; below the slowest nothing does, and neither with few events."""
    few = (promise.least - 5) / BAD_MINUTES
    return [
        burning(promise, 14.4 * promise.budget * 1.02, "1h", "6h", "1d", "3d"),
        burning(promise, 14.4 * promise.budget * 0.98, "6h", "1d", "3d"),
        burning(promise, 6 * promise.budget * 0.98, "1d", "3d"),
        burning(promise, 3 * promise.budget * 0.98, "3d"),
        burning(promise, promise.budget * 0.98),
        Scenario(promise.alert, promise.series(((0, few, BAD_MINUTES),)), {BAD_MINUTES: ()}),
    ]


def _resolved_by_the_short_window() -> Scenario:
    """Half an hour of bad replies: six minutes after it, the hour is still spoilt, and nobody is paged for it any more."""
    phases = ((0, 10.0, 30), (10.0, 0, 6))
    spoilt = TURN_LATENCY.fired(1, ("1h", "6h", "1d", "3d"))
    left = TURN_LATENCY.fired(30 / 36, ("6h", "1d", "3d"))
    return Scenario(TURN_LATENCY.alert, TURN_LATENCY.series(phases), {30: spoilt, 36: left})


def _nothing_but_failures() -> Scenario:
    """No turn ever went well: the series of the good ones are not there."""
    series = {'parley_turns_total{outcome="failed"}': counts((100, BAD_MINUTES))}
    return Scenario(TURN_SUCCESS.alert, series, {BAD_MINUTES: TURN_SUCCESS.fired(1, ("1h", "6h", "1d", "3d"))})


def _nothing_but_refusals() -> Scenario:
    series = {'parley_sessions_refused_total{reason="unavailable"}': counts((100, BAD_MINUTES))}
    return Scenario(SESSION_SETUP.alert, series, {BAD_MINUTES: SESSION_SETUP.fired(1, ("1h", "6h", "1d", "3d"))})


def _never_a_failure(promise: Promise, good: str) -> Scenario:
    """The series of the bad events is not there: their share is 0, and not unknown."""
    share = f'sum(parley:slo_errors:ratio_rate1h{{slo="{promise.slo}"}})'
    return Scenario(promise.alert, {good: counts((100, BAD_MINUTES))}, {BAD_MINUTES: ()}, {share: 0})


def _one_failure_in_three_days() -> Scenario:
    """One turn of a hundred is twice the budget, and nothing to be told of."""
    return Scenario(TURN_SUCCESS.alert, TURN_SUCCESS.series(((8, 0, 11), (8, 1, 1))), {12: ()})


BUDGETS = (
    *(scenario for promise in PROMISES for scenario in scenarios_of(promise)),
    _resolved_by_the_short_window(),
    _nothing_but_failures(),
    _nothing_but_refusals(),
    _never_a_failure(TURN_SUCCESS, 'parley_turns_total{outcome="completed"}'),
    _never_a_failure(SESSION_SETUP, 'parley_sessions_total{protocol="stream", outcome="left"}'),
    _one_failure_in_three_days(),
)
