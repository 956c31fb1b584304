"""Overview: are the promises kept, how many talk, how long do they wait, and what went wrong."""

from grafana_foundation_sdk.builders import stat, timeseries

from dashboards import promql
from dashboards.board import Row, board
from dashboards.chosen import RANGE, count, failures, gauge, observed, per_minute, percentiles, rate, share_within
from dashboards.panels import AMBER, COUNT, GREEN, PER_MINUTE, RED, SECONDS, SHARE, figure, lines
from dashboards.slo import BARGE_IN_S, SLOS, TURN_LATENCY_S, Slo
from shared.observability import metrics

_REFUSED = promql.or_zero(rate(metrics.sessions_refused, RANGE))
_SERVED = promql.or_zero(rate(metrics.sessions_total, RANGE))

GOOD = {
    "turn-latency": share_within(metrics.turn_latency, TURN_LATENCY_S, RANGE),
    "turn-success": f"1 - ({promql.or_zero(rate(metrics.turns_total, RANGE, outcome='failed'))}) "
    f"/ {rate(metrics.turns_total, RANGE)}",
    "barge-in": share_within(metrics.barge_in, BARGE_IN_S, RANGE),
    "session-setup": f"1 - ({_REFUSED}) / (({_REFUSED}) + ({_SERVED}))",
}
"""Share of good events of each SLO, over the time shown."""

_PROMISES = {
    "turn-latency": (f"Replies within {TURN_LATENCY_S:g} s", "from the end of speech to the first audio sent"),
    "turn-success": ("Turns without failure", "of all turns, those that did not fail"),
    "barge-in": (f"Silent within {BARGE_IN_S * 1000:g} ms", "from speech into a reply to its silence"),
    "session-setup": ("Sessions taken", "of all who called, those who were not refused"),
}


def build() -> dict[str, str]:
    """Its file name and its JSON."""
    promises = [_kept(11 + place, slo) for place, slo in enumerate(SLOS)]
    budgets = [_left(15 + place, slo) for place, slo in enumerate(SLOS)]
    return board(
        "overview",
        "Overview",
        "Whether callers get what they are promised; the other dashboards say why not.",
        [
            Row(10, "Promises, over the time shown", [*promises, *budgets]),
            Row(20, "Calls", _calls()),
            Row(30, "Waiting", _waiting()),
            Row(40, "What went wrong", _failures()),
        ],
    )


def _kept(number: int, slo: Slo) -> stat.Panel:
    title, meaning = _PROMISES[slo.name]
    steps = ((None, RED), (round(slo.objective - slo.budget, 6), AMBER), (slo.objective, GREEN))
    about = f"Share, {meaning}. Promised are {100 * slo.objective:g} %; below that, see which row beneath shows why."
    return figure(number, title, about, SHARE, GOOD[slo.name], steps=steps, decimals=2, runbooks=[slo.alert])


def _left(number: int, slo: Slo) -> stat.Panel:
    left = f"1 - (1 - ({GOOD[slo.name]})) / {slo.budget:g}"
    steps = ((None, RED), (0, AMBER), (0.5, GREEN))
    about = (
        f"How much of the {100 * slo.budget:g} % that may go wrong is left, for the time shown; below 0 the promise is "
        "broken. When little is left, put off what is risky."
    )
    title = f"Budget left: {_PROMISES[slo.name][0].lower()}"
    return figure(number, title, about, SHARE, left, steps=steps, decimals=1, runbooks=[slo.alert])


def _calls() -> list[timeseries.Panel]:
    begun = f"60 * {observed(metrics.session_setup)}"
    return [
        lines(
            21,
            "Calls in progress",
            "Sessions on all edges, by protocol. A sudden fall means that an edge or the broker died.",
            COUNT,
            {"{{protocol}}": gauge(metrics.sessions_active, by=("protocol",))},
            span=6,
            stacked=True,
            runbooks=["BrokerGone"],
        ),
        lines(
            22,
            "Calls per minute",
            "Sessions that began, and that ended, by how. Many that ended other than by hanging up: see the edge.",
            PER_MINUTE,
            {"begun": begun, "ended: {{outcome}}": per_minute(metrics.sessions_total, ("outcome",))},
            span=6,
            runbooks=["SessionsRefused"],
        ),
        lines(
            23,
            "Turns per minute",
            "Turns by outcome. An empty one held no words: noise, or a recogniser that hears nothing.",
            PER_MINUTE,
            {"{{outcome}}": per_minute(metrics.turns_total, ("outcome",))},
            span=6,
            stacked=True,
            runbooks=["TurnSuccessBudget"],
        ),
        lines(
            24,
            "Processes that tell",
            "Processes that Prometheus reads, by stage. One that is missing has died, or is not scraped.",
            COUNT,
            {"{{stage}}": gauge(metrics.build_info, "count", ("stage",))},
            span=6,
            runbooks=["ExporterAbsent"],
        ),
    ]


def _waiting() -> list[timeseries.Panel]:
    return [
        lines(
            31,
            "Voice to voice, sent",
            "From the end of speech to the first audio that left the edge. Above the line: the turn waterfall says in "
            "which part of the turn the time is lost.",
            SECONDS,
            percentiles(metrics.turn_latency),
            limit=TURN_LATENCY_S,
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            32,
            "Voice to voice, heard",
            "The same until the client played it, where clients report that. Much above what was sent: the network, or "
            "the client's buffer.",
            SECONDS,
            percentiles(metrics.turn_heard_latency),
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            33,
            "Barge-in",
            "From the first sample of speech into a reply to the message that silences it. Above the line: look at the "
            "vad stage's queue and event loop.",
            SECONDS,
            percentiles(metrics.barge_in),
            limit=BARGE_IN_S,
            runbooks=["BargeInBudget"],
        ),
    ]


def _failures() -> list[stat.Panel | timeseries.Panel]:
    return [
        *(
            figure(41 + place, title, about, COUNT, promql.or_zero(expression), steps=_NONE, runbooks=runbooks)
            for place, (title, about, expression, runbooks) in enumerate(_FIGURES)
        ),
        lines(
            45,
            "Refused, per minute",
            "Sessions that were turned away, by reason: too many, or a stage too far behind. Scale the edge, or that "
            "stage.",
            PER_MINUTE,
            failures(metrics.sessions_refused, "reason"),
            span=12,
            runbooks=["SessionsRefused"],
        ),
        lines(
            46,
            "Dropped, per minute",
            "Data that was thrown away, by reason. What is stale or of an old fence is meant to go; a slow reader or a "
            "broker's error is heard.",
            PER_MINUTE,
            failures(metrics.dropped, "reason"),
            span=12,
        ),
    ]


_NONE = ((None, GREEN), (1, RED))
_FIGURES: tuple[tuple[str, str, str, list[str]], ...] = (
    (
        "Sessions refused",
        "In the time shown; each is a caller who was turned away. The reasons are below.",
        count(metrics.sessions_refused, RANGE),
        ["SessionsRefused", "SessionSetupBudget"],
    ),
    (
        "Turns failed",
        "In the time shown; each is a person who got no reply. The logs of the stages say why.",
        count(metrics.turns_total, RANGE, outcome="failed"),
        ["TurnSuccessBudget"],
    ),
    (
        "Dead letters",
        "Work that was given up after its last attempt, in the time shown. Its error lies with it in the broker.",
        count(metrics.dead_letters, RANGE),
        ["DeadLetters"],
    ),
    (
        "Data dropped",
        "In the time shown, for any reason. What is stale is meant to go; the reasons are below.",
        count(metrics.dropped, RANGE),
        [],
    ),
)
