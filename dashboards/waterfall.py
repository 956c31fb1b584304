"""The turn waterfall dashboard: the segments of a turn's latency, and the benefit of speculative replies."""

from dashboards import promql
from dashboards.board import Row, board
from dashboards.chosen import RANGE, mean, per_minute, percentiles, quantile, rate
from dashboards.panels import PER_MINUTE, SECONDS, SHARE, Panel, bars, figure, lines
from shared.observability import metrics
from shared.protocol.turn_record import SEGMENTS

_SEGMENT = "segment"
_STAGES = {name: kind.stage for name, kind in SEGMENTS.items() if kind.stage != "client"}
"""The stage of each segment that the metric of segments has: those until the reply is sent."""
_ABOUT = "Segments of a turn, in order from the bottom. If one has grown, look at its stage on the stages dashboard."


def build() -> dict[str, str]:
    return board(
        "waterfall",
        "Turn waterfall",
        "Where the time goes between the end of speech and the reply.",
        [
            Row(10, "All segments", _all_segments()),
            Row(20, "Each segment", _each_segment()),
            Row(30, "Speculative replies", _speculation()),
        ],
    )


def _all_segments() -> list[Panel]:
    return [
        lines(
            "Segments of a turn, p50",
            f"{_ABOUT} The sum of the medians is close to the median of the whole turn, not equal to it.",
            SECONDS,
            _stacked(0.5),
            stacked=True,
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            "Segments of a turn, p95",
            f"{_ABOUT} The sum is above the p95 of the whole turn: segments are rarely slow at the same time.",
            SECONDS,
            _stacked(0.95),
            stacked=True,
            runbooks=["TurnLatencyBudget"],
        ),
        bars(
            "Mean of each segment, over the time range",
            "The sum is above the mean latency if replies are prepared at pauses, because that work overlaps the "
            "endpoint wait.",
            SECONDS,
            {_legend(segment): mean(metrics.turn_segment, RANGE, segment=segment) for segment in _STAGES},
        ),
    ]


def _stacked(share: float) -> dict[str, str]:
    return {_legend(segment): quantile(share, metrics.turn_segment, segment=segment) for segment in _STAGES}


def _legend(segment: str) -> str:
    return f"{segment} ({_STAGES[segment]})"


def _each_segment() -> list[Panel]:
    return [
        lines(
            f"{segment} ({stage})",
            f"{_MEANING[segment]} By engine.",
            SECONDS,
            percentiles(metrics.turn_segment, (0.5, 0.95), by=("engine",), segment=segment),
            runbooks=["TurnLatencyBudget"],
        )
        for segment, stage in _STAGES.items()
    ]


_MEANING = {
    "endpoint": "Silence before the turn was committed, set by the session or by the end-of-turn engine.",
    "transcript": "From the pause to the final transcript. Slow: too few asr workers, or a slow model.",
    "first_token": "From the transcript to the first token. Slow: too few llm workers, or long prompts.",
    "first_sentence": "From the first token to the first complete clause. Slow: few tokens per second.",
    "first_audio": "From the first clause to its first audio. Slow: too few tts workers, or a long first clause.",
    "release": "From first audio and commit to the sending by the edge. Above a few ms: its event loop is busy.",
}


def _speculation() -> list[Panel]:
    outcomes = rate(metrics.speculations, by=("outcome",))
    total = rate(metrics.speculations, RANGE)
    reused = rate(metrics.speculations, RANGE, outcome="reused")
    wasted = rate(metrics.speculations, RANGE, outcome="wasted")
    return [
        figure(
            "Speculative replies reused",
            "Share of the replies prepared before the end of the turn that were sent, over the time range. If it is "
            "low, people pause long within their turns: raise pause_ms.",
            SHARE,
            promql.share(reused, total),
            span=4,
            height=8,
        ),
        figure(
            "Speculative replies wasted",
            "Share of the prepared replies whose turn was discarded. It costs computing, not latency: if workers are "
            "scarce, lower speculations.",
            SHARE,
            promql.share(wasted, total),
            span=4,
            height=8,
        ),
        lines(
            "Outcomes of speculative replies",
            "Reused: sent as prepared. Redone: the person went on speaking, and the reply was prepared again. "
            "Wasted: the turn was discarded.",
            SHARE,
            {"{{outcome}}": f"{outcomes} / on () group_left () {rate(metrics.speculations)}"},
            stacked=True,
        ),
        lines(
            "Wasted work",
            "Seconds of cancelled work per second, by stage: the price of speculation. Close to the number of "
            "workers, it delays other jobs: raise pause_ms, or lower speculations.",
            SECONDS,
            {"{{stage}}": rate(metrics.wasted_work, by=("stage",))},
            stacked=True,
        ),
        lines(
            "Speculative replies, per minute",
            "Pauses at which a reply was prepared, and the outcomes. If there are many more than turns, people pause "
            "often, and a longer pause_ms saves work.",
            PER_MINUTE,
            {
                "begun": promql.or_zero(per_minute(metrics.speculations_begun)),
                "{{outcome}}": per_minute(metrics.speculations, ("outcome",)),
            },
        ),
        lines(
            "Replies resumed, per minute",
            "Replies resumed after a false interruption. If there are many, noise or echo is detected as speech.",
            PER_MINUTE,
            {"resumed": promql.or_zero(per_minute(metrics.resumes))},
        ),
    ]
