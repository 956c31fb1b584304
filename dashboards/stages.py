"""Stages: are there enough workers, how fast are they, what went wrong, and what runs."""

from prometheus_client import Counter

from dashboards import promql
from dashboards.alerts import ENDPOINT_FAILURES, LOOP_LAG_S, QUEUE_AGE_S
from dashboards.board import Row, board, choice
from dashboards.chosen import (
    ENGINE,
    ENVIRONMENT,
    STAGE,
    gauge,
    mean,
    per_minute,
    percentiles,
)
from dashboards.panels import COUNT, PER_MINUTE, SECONDS, SHARE, Panel, lines, rows
from shared.observability import metrics

_BY = ("stage",)
_WITH_ENGINE = ("stage", "engine")


def build() -> dict[str, str]:
    """Its file name and its JSON."""
    engines = promql.series(metrics.stage_duration, "_count", environment=ENVIRONMENT, stage=STAGE)
    stages = promql.series(metrics.build_info, environment=ENVIRONMENT)
    return board(
        "stages",
        "Stages",
        "Each stage's workers: enough of them, fast enough, without errors.",
        [
            Row(10, "Are there enough", _enough()),
            Row(20, "How fast are they", _speed()),
            Row(30, "What went wrong", _failures()),
            Row(50, "Usage", _usage()),
            Row(40, "What runs", _running()),
        ],
        [choice("stage", f"label_values({stages}, stage)"), choice("engine", f"label_values({engines}, engine)")],
    )


def _enough() -> list[Panel]:
    busy = gauge(metrics.work_busy, by=_BY, stage=STAGE)
    slots = gauge(metrics.slots, by=_BY, stage=STAGE)
    return [
        lines(
            11,
            "Ready workers",
            "Workers that say that they are ready, as the edges see it. 0: new sessions are refused.",
            COUNT,
            {"{{stage}}": gauge(metrics.ready_workers, "max", _BY, stage=STAGE)},
            runbooks=["NoReadyWorker", "ExporterAbsent"],
        ),
        lines(
            12,
            "Queue age",
            "Age of the oldest work that no worker has taken: the signal to scale by. Above the line, start workers of "
            "that stage.",
            SECONDS,
            {"{{stage}}": gauge(metrics.queue_age, "max", _BY, stage=STAGE)},
            limit=QUEUE_AGE_S,
            runbooks=["QueueTooOld"],
        ),
        lines(
            13,
            "Wait in the queue",
            "From the making of a piece of work to the worker that took it. It is part of every turn's wait.",
            SECONDS,
            percentiles(metrics.queue_wait, by=_BY, stage=STAGE),
            runbooks=["QueueTooOld"],
        ),
        lines(
            14,
            "Slots",
            "Pieces of work in hand, and how many more would be taken. None free: work waits in the queue.",
            COUNT,
            {"{{stage}} busy": busy, "{{stage}} free": f"{slots} - {busy}"},
        ),
        lines(
            15,
            "Share of slots busy",
            "Near 100 % for long: that stage needs another worker before its queue grows.",
            SHARE,
            {"{{stage}}": f"{busy} / {slots}"},
            limit=0.9,
        ),
        lines(
            16,
            "Event loop lag, p99",
            "How much later than asked for each process woke up. Above the line something blocks it, or the machine "
            "has too few cores.",
            SECONDS,
            percentiles(metrics.loop_lag, (0.99,), by=("stage", "instance"), stage=STAGE),
            limit=LOOP_LAG_S,
            runbooks=["EventLoopLag"],
        ),
    ]


def _speed() -> list[Panel]:
    return [
        lines(
            21,
            "Duration of work",
            "From the taking of a piece of work to its end: an utterance, a reply, a sentence, by engine. Sessions of vad "
            "last as long as the call, and are not among them.",
            SECONDS,
            percentiles(metrics.stage_duration, by=_WITH_ENGINE, stage=STAGE, engine=ENGINE),
        ),
        lines(
            22,
            "Real-time factor",
            "Seconds of work for a second of audio. Above the line it does not keep up, and gaps are heard: a smaller "
            "model, a faster device, fewer slots.",
            SHARE,
            percentiles(metrics.realtime_factor, (0.5, 0.95), by=_WITH_ENGINE, stage=STAGE, engine=ENGINE),
            limit=1.0,
        ),
        lines(
            23,
            "Batch size",
            "Sessions that went into one call of the model. 1 under load: batch_ms is too short, or batch is 1.",
            COUNT,
            {
                "mean {{stage}}": mean(metrics.batch_size, by=_BY, stage=STAGE),
                **percentiles(metrics.batch_size, (0.95,), by=_BY, stage=STAGE),
            },
        ),
    ]


def _usage() -> list[Panel]:
    requests, by = metrics.endpoint_requests, ("stage", "endpoint")
    cancelled = per_minute(requests, by, stage=STAGE, outcome="cancelled")
    done = per_minute(requests, by, stage=STAGE, outcome="done")
    wanted = f"({per_minute(requests, by, stage=STAGE)} - {cancelled})"
    return [
        lines(
            51,
            "Tokens, per minute",
            "Of chat models, as far as their engine knows: prompt is what was read anew, cached the rest of the prompt. "
            "Much prompt and little cached: no prefix is shared between turns.",
            PER_MINUTE,
            {"{{engine}} {{direction}}": per_minute(metrics.llm_tokens, ("engine", "direction"), engine=ENGINE)},
            stacked=True,
        ),
        lines(
            52,
            "Time to the first token",
            "Of the chat model alone, without queue and bus. Slow: long prompts, a busy device, or the endpoint.",
            SECONDS,
            percentiles(metrics.llm_first_token, by=("engine",), engine=ENGINE),
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            53,
            "Characters spoken, per minute",
            "Given to the synthesiser, also for replies that were interrupted, and again by a second attempt.",
            PER_MINUTE,
            {"{{engine}}": per_minute(metrics.tts_characters, ("engine",), engine=ENGINE)},
        ),
        lines(
            54,
            "Speech heard, seconds per minute",
            "Given to the recogniser: 60 is one person who talks all the time.",
            PER_MINUTE,
            {"{{engine}}": per_minute(metrics.asr_seconds, ("engine",), engine=ENGINE)},
        ),
        lines(
            55,
            "Requests to endpoints, per minute",
            "By outcome. Any to the fallback: the first endpoint has failed twice, or will not work again by itself.",
            PER_MINUTE,
            {"{{stage}} {{endpoint}} {{outcome}}": per_minute(requests, ("stage", "endpoint", "outcome"), stage=STAGE)},
            runbooks=["EndpointFailing"],
        ),
        lines(
            56,
            "Share of requests to endpoints that failed",
            "Of those that somebody wanted to the end. Above the line for minutes, an alert fires.",
            SHARE,
            {"{{stage}} {{endpoint}}": f"1 - {done} / {wanted}"},
            limit=ENDPOINT_FAILURES,
            runbooks=["EndpointFailing"],
        ),
    ]


def _failures() -> list[Panel]:
    panels: tuple[tuple[str, str, Counter, list[str]], ...] = (
        (
            "Work taken over",
            "Work of a worker that fell silent, which another took. Some with every deployment; else a worker died.",
            metrics.reclaims,
            ["LeaseSilent"],
        ),
        (
            "Leases lost",
            "Work that another took while this worker still had it: it stalled for longer than lease_ms.",
            metrics.leases_lost,
            ["LeaseSilent", "EventLoopLag"],
        ),
        (
            "Dead letters",
            "Work that was given up after its last attempt: a person got no reply. Its error lies with it in the broker.",
            metrics.dead_letters,
            ["DeadLetters"],
        ),
        (
            "Bad frames",
            "Entries that were no frame of ours: written by another version of Parley, or by something foreign.",
            metrics.bad_frames,
            ["DeadLetters"],
        ),
    )
    work = {"{{stage}} {{outcome}}": per_minute(metrics.work_done, ("stage", "outcome"), stage=STAGE)}
    about = "Pieces of work by how they ended. Failed ones are tried again, then become dead letters."
    return [
        lines(31, "Work done, per minute", about, PER_MINUTE, work, runbooks=["DeadLetters"]),
        *(
            lines(
                32 + place,
                f"{title}, per minute",
                about,
                PER_MINUTE,
                {
                    "all": promql.or_zero(per_minute(counter, stage=STAGE)),
                    "{{stage}}": per_minute(counter, _BY, stage=STAGE),
                },
                runbooks=runbooks,
            )
            for place, (title, about, counter, runbooks) in enumerate(panels)
        ),
    ]


def _running() -> list[Panel]:
    what = gauge(metrics.build_info, "count", ("stage", "version", "python", "engine"), stage=STAGE)
    about = "How many processes of what. Two versions of a stage: a deployment is under way, or has stopped half-way."
    return [rows(41, "Processes", about, COUNT, what)]
