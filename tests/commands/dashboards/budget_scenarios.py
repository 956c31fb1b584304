"""Good and bad events for each SLO, and which of its four burn-rate alerts must fire."""

from dataclasses import dataclass

from tests.commands.dashboards.scenario import Fired, Scenario, counts

Phases = tuple[tuple[float, float, int], ...]
"""Good events per minute, bad events per minute, and the number of minutes."""

BURNS = {"1h": ("page", 14.4), "6h": ("page", 6.0), "1d": ("ticket", 3.0), "3d": ("ticket", 1.0)}
BAD_MINUTES, GOOD_MINUTES = 10, 6


@dataclass(frozen=True)
class Series:
    """The series of one SLO and the texts of its alerts."""

    alert: str
    slo: str
    budget: float
    good: tuple[str, ...]
    """Series that count good events; the events are distributed evenly."""
    bad: str | None
    whole: str | None
    """Series that counts all events, if the SLO has one."""
    least: int
    what: str
    """The end of the description's first sentence."""

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
                f"{100 * share:.4g}% {self.what} in the last {window}. The error budget is {100 * self.budget:g} % "
                f"over 30 days; it burns more than {factor:g} times too fast."
            ),
        )


TURN_LATENCY = Series(
    "TurnLatencyBudget",
    "turn-latency",
    0.05,
    ('parley_turn_latency_seconds_bucket{protocol="stream", le="0.8"}',),
    None,
    'parley_turn_latency_seconds_count{protocol="stream"}',
    30,
    "of the replies began later than 0.8 s after the end of speech",
)
TURN_SUCCESS = Series(
    "TurnSuccessBudget",
    "turn-success",
    0.005,
    tuple(f'parley_turns_total{{outcome="{outcome}"}}' for outcome in ("completed", "interrupted", "empty")),
    'parley_turns_total{outcome="failed"}',
    None,
    30,
    "of the turns failed",
)
BARGE_IN = Series(
    "BargeInBudget",
    "barge-in",
    0.01,
    ('parley_barge_in_seconds_bucket{protocol="stream", le="0.2"}',),
    None,
    'parley_barge_in_seconds_count{protocol="stream"}',
    10,
    "of the interrupted replies took longer than 0.2 s to fall silent",
)
SESSION_SETUP = Series(
    "SessionSetupBudget",
    "session-setup",
    0.005,
    tuple(f'parley_sessions_total{{protocol="stream", outcome="{outcome}"}}' for outcome in ("left", "closed")),
    'parley_sessions_refused_total{reason="unavailable"}',
    None,
    10,
    "of the sessions were refused",
)
SLO_SERIES = (TURN_LATENCY, TURN_SUCCESS, BARGE_IN, SESSION_SETUP)


def burning(slo: Series, share: float, *windows: str) -> Scenario:
    """This share of the events is bad for 10 minutes, followed by many good events."""
    phases = ((100 * (1 - share), 100 * share, BAD_MINUTES), (100_000, 0, GOOD_MINUTES))
    end = BAD_MINUTES + GOOD_MINUTES
    return Scenario(slo.alert, slo.series(phases), {BAD_MINUTES: slo.fired(share, windows), end: ()})


def scenarios_of(slo: Series) -> list[Scenario]:
    """Shares around the threshold of each burn rate; no alert below the lowest, and none with too few events."""
    few = (slo.least - 5) / BAD_MINUTES
    return [
        burning(slo, 14.4 * slo.budget * 1.02, "1h", "6h", "1d", "3d"),
        burning(slo, 14.4 * slo.budget * 0.98, "6h", "1d", "3d"),
        burning(slo, 6 * slo.budget * 0.98, "1d", "3d"),
        burning(slo, 3 * slo.budget * 0.98, "3d"),
        burning(slo, slo.budget * 0.98),
        Scenario(slo.alert, slo.series(((0, few, BAD_MINUTES),)), {BAD_MINUTES: ()}),
    ]


def _resolved_by_the_short_window() -> Scenario:
    """After half an hour of bad replies and six good minutes, the 1h page has ended, though the hour is still bad."""
    phases = ((0, 10.0, 30), (10.0, 0, 6))
    all_fire = TURN_LATENCY.fired(1, ("1h", "6h", "1d", "3d"))
    without_1h = TURN_LATENCY.fired(30 / 36, ("6h", "1d", "3d"))
    return Scenario(TURN_LATENCY.alert, TURN_LATENCY.series(phases), {30: all_fire, 36: without_1h})


def _nothing_but_failures() -> Scenario:
    """No turn ever succeeded, so the series of good turns do not exist."""
    series = {'parley_turns_total{outcome="failed"}': counts((100, BAD_MINUTES))}
    return Scenario(TURN_SUCCESS.alert, series, {BAD_MINUTES: TURN_SUCCESS.fired(1, ("1h", "6h", "1d", "3d"))})


def _nothing_but_refusals() -> Scenario:
    series = {'parley_sessions_refused_total{reason="unavailable"}': counts((100, BAD_MINUTES))}
    return Scenario(SESSION_SETUP.alert, series, {BAD_MINUTES: SESSION_SETUP.fired(1, ("1h", "6h", "1d", "3d"))})


def _never_a_failure(slo: Series, good: str) -> Scenario:
    """The series of bad events does not exist: the share is 0, not missing."""
    share = f'sum(parley:slo_errors:ratio_rate1h{{slo="{slo.slo}"}})'
    return Scenario(slo.alert, {good: counts((100, BAD_MINUTES))}, {BAD_MINUTES: ()}, {share: 0})


def _one_failure_in_three_days() -> Scenario:
    """One failed turn of a hundred is twice the budget, but must not raise an alert."""
    return Scenario(TURN_SUCCESS.alert, TURN_SUCCESS.series(((8, 0, 11), (8, 1, 1))), {12: ()})


BUDGETS = (
    *(scenario for slo in SLO_SERIES for scenario in scenarios_of(slo)),
    _resolved_by_the_short_window(),
    _nothing_but_failures(),
    _nothing_but_refusals(),
    _never_a_failure(TURN_SUCCESS, 'parley_turns_total{outcome="completed"}'),
    _never_a_failure(SESSION_SETUP, 'parley_sessions_total{protocol="stream", outcome="left"}'),
    _one_failure_in_three_days(),
)
