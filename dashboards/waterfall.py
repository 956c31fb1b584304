"""Turn waterfall: in which part of a turn, and in which stage, the time goes; and what preparing replies early is worth."""

from dashboards import promql
from dashboards.board import Row, board
from dashboards.chosen import RANGE, mean, per_minute, percentiles, quantile, rate
from dashboards.panels import PER_MINUTE, SECONDS, SHARE, Panel, bars, figure, lines
from shared.observability import metrics
from shared.protocol.turn_record import SEGMENTS

_SEGMENT = "segment"
_ABOUT = (
    "Parts of a turn, in their order from below. A part that grew is where to look: its stage on the dashboard of the "
    "stages."
)


def build() -> dict[str, str]:
    """Its file name and its JSON."""
    return board(
        "waterfall",
        "Turn waterfall",
        "Where the time goes between the end of speech and the reply.",
        [
            Row(10, "All parts of a turn", _parts()),
            Row(20, "Each part", _stages()),
            Row(30, "Prepared early", _early()),
        ],
    )


def _parts() -> list[Panel]:
    return [
        lines(
            11,
            "Parts of a turn, p50",
            f"{_ABOUT} Medians of the parts: their sum is near the median of the whole, not equal to it.",
            SECONDS,
            _stacked(0.5),
            stacked=True,
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            12,
            "Parts of a turn, p95",
            f"{_ABOUT} Seldom are all parts slow at once: their sum is more than the whole's p95.",
            SECONDS,
            _stacked(0.95),
            stacked=True,
            runbooks=["TurnLatencyBudget"],
        ),
        bars(
            13,
            "Mean of each part, over the time shown",
            "Means add up: together they are the mean wait, less what was done while the person might still have gone "
            "on speaking.",
            SECONDS,
            {_legend(segment): mean(metrics.turn_segment, RANGE, segment=segment) for segment in SEGMENTS},
        ),
    ]


def _stacked(share: float) -> dict[str, str]:
    return {_legend(segment): quantile(share, metrics.turn_segment, segment=segment) for segment in SEGMENTS}


def _legend(segment: str) -> str:
    return f"{segment} ({SEGMENTS[segment]})"


def _stages() -> list[Panel]:
    return [
        lines(
            21 + place,
            f"{segment} ({stage})",
            f"{_EACH[segment]} By engine, where more than one runs.",
            SECONDS,
            percentiles(metrics.turn_segment, (0.5, 0.95), by=("engine",), segment=segment),
            runbooks=["TurnLatencyBudget"],
        )
        for place, (segment, stage) in enumerate(SEGMENTS.items())
    ]


_EACH = {
    "endpoint": "The silence after which a turn is over: a setting of the session, or the end-of-turn engine's judgement.",
    "transcript": "From the pause to the final transcript. Slow: too few asr workers, or a model too large for the device.",
    "first_token": "From the transcript to the reply's first word. Slow: the chat model's queue or its prompt's length.",
    "first_sentence": "From the first word to the first clause that can be spoken. Slow: few tokens per second.",
    "first_audio": "From that clause to its first audio. Slow: too few tts workers, or a long first clause.",
    "release": "From what was ready to what left the edge. More than some milliseconds: a busy event loop at the edge.",
}


def _early() -> list[Panel]:
    outcomes = rate(metrics.speculations, by=("outcome",))
    total = rate(metrics.speculations, RANGE)
    reused = rate(metrics.speculations, RANGE, outcome="reused")
    wasted = rate(metrics.speculations, RANGE, outcome="wasted")
    return [
        figure(
            31,
            "Prepared replies that were used",
            "Of the replies begun before the turn was over, those that were released, over the time shown. Few: people "
            "pause long within their turns; a longer pause_ms makes fewer of them.",
            SHARE,
            promql.share(reused, total),
            span=4,
            height=8,
        ),
        figure(
            32,
            "Prepared replies that were wasted",
            "Those that no turn came of. It costs work, never time: where workers are scarce, lower speculations.",
            SHARE,
            promql.share(wasted, total),
            span=4,
            height=8,
        ),
        lines(
            33,
            "What came of prepared replies",
            "Reused: released as prepared. Redone: speech went on, and the reply was begun anew. Wasted: no turn came.",
            SHARE,
            {"{{outcome}}": f"{outcomes} / on () group_left () {rate(metrics.speculations)}"},
            stacked=True,
        ),
        lines(
            34,
            "Work for turns that were none",
            "Seconds of work per second that no reply came of, by stage: the price of preparing. Near the number of "
            "workers it takes room from others: raise pause_ms, or lower speculations.",
            SECONDS,
            {"{{stage}}": rate(metrics.wasted_work, by=("stage",))},
            stacked=True,
        ),
        lines(
            35,
            "Prepared replies, per minute",
            "Pauses at which a reply was prepared, and what came of them. Many more than turns: people pause often, and "
            "a longer pause_ms saves work.",
            PER_MINUTE,
            {
                "begun": promql.or_zero(per_minute(metrics.speculations_begun)),
                "{{outcome}}": per_minute(metrics.speculations, ("outcome",)),
            },
        ),
        lines(
            36,
            "Replies resumed, per minute",
            "Replies that went on after a noise that was no speech. Many: the detector takes noise or echo for speech.",
            PER_MINUTE,
            {"resumed": promql.or_zero(per_minute(metrics.resumes))},
        ),
    ]
