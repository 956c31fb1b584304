"""The overview dashboard: SLOs, calls, latency and errors."""

from grafana_foundation_sdk.builders import stat, timeseries

from dashboards import promql
from dashboards.board import Row, board
from dashboards.chosen import ENVIRONMENT, RANGE, count, failures, gauge, observed, per_minute, percentiles
from dashboards.panels import AMBER, COUNT, GREEN, PER_MINUTE, RED, SECONDS, SHARE, figure, lines
from dashboards.slo import BARGE_IN_S, SLOS, TURN_LATENCY_S, Slo
from shared.observability import metrics

GOOD = {slo.name: f"1 - ({slo.errors(RANGE, environment=ENVIRONMENT)})" for slo in SLOS}
"""Expression for the share of good events of each SLO, over the dashboard's time range."""

_INDICATORS = {
    "turn-latency": (
        f"Replies within {TURN_LATENCY_S:g} s",
        f"Share of turns with at most {TURN_LATENCY_S:g} s from the end of speech to the first audio sent",
    ),
    "turn-success": ("Turns without failure", "Share of turns that did not fail"),
    "barge-in": (
        f"Silent within {BARGE_IN_S * 1000:g} ms",
        f"Share of interrupted replies that fell silent within {BARGE_IN_S * 1000:g} ms after speech began",
    ),
    "session-setup": ("Sessions accepted", "Share of requested sessions that were not refused"),
}


def build() -> dict[str, str]:
    return board(
        "overview",
        "Overview",
        "Whether the SLOs are met. The other dashboards help to find the reason if they are not.",
        [
            Row(10, "SLOs, over the time range", [*map(_indicator, SLOS), *map(_budget, SLOS)]),
            Row(20, "Calls", _calls()),
            Row(30, "Latency", _latency()),
            Row(40, "Errors", _failures()),
        ],
    )


def _indicator(slo: Slo) -> stat.Panel:
    title, meaning = _INDICATORS[slo.name]
    steps = ((None, RED), (round(slo.objective - slo.budget, 6), AMBER), (slo.objective, GREEN))
    about = (
        f"{meaning}. The objective is {100 * slo.objective:g} %; below that, the rows beneath help to find the reason."
    )
    return figure(title, about, SHARE, GOOD[slo.name], steps=steps, decimals=2, runbooks=[slo.alert])


def _budget(slo: Slo) -> stat.Panel:
    left = f"1 - ({slo.errors(RANGE, environment=ENVIRONMENT)}) / {slo.budget:g}"
    steps = ((None, RED), (0, AMBER), (0.5, GREEN))
    about = (
        f"Remaining share of the error budget ({100 * slo.budget:g} % of events) over the time range. Below 0 the "
        "objective is missed. If little is left, postpone risky changes."
    )
    title = f"Budget left: {_INDICATORS[slo.name][0].lower()}"
    return figure(title, about, SHARE, left, steps=steps, decimals=1, runbooks=[slo.alert])


def _calls() -> list[timeseries.Panel]:
    begun = f"60 * {observed(metrics.session_setup)}"
    return [
        lines(
            "Calls in progress",
            "Sessions on all edges, by protocol. A sudden drop means that an edge or the broker died.",
            COUNT,
            {"{{protocol}}": gauge(metrics.sessions_active, by=("protocol",))},
            span=6,
            stacked=True,
            runbooks=["BrokerGone"],
        ),
        lines(
            "Calls per minute",
            "Begun sessions, and ended sessions by outcome. If many failed, see the edge dashboard.",
            PER_MINUTE,
            {"begun": begun, "ended: {{outcome}}": per_minute(metrics.sessions_total, ("outcome",))},
            span=6,
            runbooks=["SessionsRefused"],
        ),
        lines(
            "Turns per minute",
            "Turns by outcome. Empty turns had no words: noise, or the recogniser does not understand the speech.",
            PER_MINUTE,
            {"{{outcome}}": per_minute(metrics.turns_total, ("outcome",))},
            span=6,
            stacked=True,
            runbooks=["TurnSuccessBudget"],
        ),
        lines(
            "Processes",
            "Processes that Prometheus scrapes, by stage. A missing process has died, or is not a scrape target.",
            COUNT,
            {"{{stage}}": gauge(metrics.build_info, "count", ("stage",))},
            span=6,
            runbooks=["ExporterAbsent"],
        ),
    ]


def _latency() -> list[timeseries.Panel]:
    return [
        lines(
            "Voice to voice, sent",
            "From the end of speech to the first audio sent by the edge. If it is above the line, the turn waterfall "
            "shows which segment is slow.",
            SECONDS,
            percentiles(metrics.turn_latency),
            limit=TURN_LATENCY_S,
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            "Voice to voice, heard",
            "From the end of speech to the first audio played, for clients that report playback. If it is far above "
            "the time until it was sent, check the network and the client's buffer.",
            SECONDS,
            percentiles(metrics.turn_heard_latency),
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            "Barge-in",
            "From the first sample of speech during a reply to the message that silences it. If it is above the "
            "line, check the vad stage's queue and event loop.",
            SECONDS,
            percentiles(metrics.barge_in),
            limit=BARGE_IN_S,
            runbooks=["BargeInBudget"],
        ),
    ]


def _failures() -> list[stat.Panel | timeseries.Panel]:
    return [
        *(
            figure(title, about, COUNT, promql.or_zero(expression), steps=_NONE, runbooks=runbooks)
            for title, about, expression, runbooks in _FIGURES
        ),
        lines(
            "Refused, per minute",
            "Refused sessions, by reason: full (too many), or a stage without workers or too far behind. Scale the "
            "edge or that stage.",
            PER_MINUTE,
            failures(metrics.sessions_refused, "reason"),
            span=12,
            runbooks=["SessionsRefused"],
        ),
        lines(
            "Dropped, per minute",
            "Dropped data, by reason. Stale frames and frames of an old fence are dropped by design; a slow reader "
            "or a broker error causes audible gaps.",
            PER_MINUTE,
            failures(metrics.dropped, "reason"),
            span=12,
        ),
    ]


_NONE = ((None, GREEN), (1, RED))
_FIGURES: tuple[tuple[str, str, str, list[str]], ...] = (
    (
        "Sessions refused",
        "Refused sessions in the time range; the reasons are below.",
        count(metrics.sessions_refused, RANGE),
        ["SessionsRefused", "SessionSetupBudget"],
    ),
    (
        "Turns failed",
        "Turns without a reply in the time range. The reason is in the stages' logs.",
        count(metrics.turns_total, RANGE, outcome="failed"),
        ["TurnSuccessBudget"],
    ),
    (
        "Dead letters",
        "Jobs given up after their last attempt, in the time range. The broker's stream dead:<stage> has the errors.",
        count(metrics.dead_letters, RANGE),
        ["DeadLetters"],
    ),
    (
        "Data dropped",
        "Dropped data in the time range. Stale data is dropped by design; the reasons are below.",
        count(metrics.dropped, RANGE),
        [],
    ),
)
