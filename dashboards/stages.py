"""The stages dashboard: capacity, speed, errors, usage and versions of the workers."""

from prometheus_client import Counter

from dashboards import promql
from dashboards.alerts import ENDPOINT_FAILURES, LOOP_LAG_S, QUEUE_AGE_S
from dashboards.board import Row, board, choice
from dashboards.chosen import ENGINE, ENVIRONMENT, STAGE, gauge, mean, per_minute, percentiles
from dashboards.panels import COUNT, PER_MINUTE, SECONDS, SHARE, Panel, lines, rows
from shared.observability import metrics

_BY = ("stage",)
_WITH_ENGINE = ("stage", "engine")


def build() -> dict[str, str]:
    engines = promql.series(metrics.stage_duration, "_count", environment=ENVIRONMENT, stage=STAGE)
    stages = promql.series(metrics.build_info, environment=ENVIRONMENT)
    return board(
        "stages",
        "Stages",
        "The workers of each stage: capacity, speed and errors.",
        [
            Row(10, "Capacity", _capacity()),
            Row(20, "Speed", _speed()),
            Row(30, "Errors", _failures()),
            Row(50, "Usage", _usage()),
            Row(40, "Versions", _versions()),
        ],
        [choice("stage", f"label_values({stages}, stage)"), choice("engine", f"label_values({engines}, engine)")],
    )


def _capacity() -> list[Panel]:
    busy = gauge(metrics.work_busy, by=_BY, stage=STAGE)
    slots = gauge(metrics.slots, by=_BY, stage=STAGE)
    return [
        lines(
            "Ready workers",
            "Ready workers, as the edges see them. At 0, new sessions are refused.",
            COUNT,
            {"{{stage}}": gauge(metrics.ready_workers, "max", _BY, stage=STAGE)},
            runbooks=["NoReadyWorker", "ExporterAbsent"],
        ),
        lines(
            "Queue age",
            "Age of the oldest job that waits for a worker. Use it as the scaling signal: above the line, start "
            "workers of that stage.",
            SECONDS,
            {"{{stage}}": gauge(metrics.queue_age, "max", _BY, stage=STAGE)},
            limit=QUEUE_AGE_S,
            runbooks=["QueueTooOld"],
        ),
        lines(
            "Queueing delay",
            "From the creation of a job to its delivery to a worker. It adds to the latency of turns.",
            SECONDS,
            percentiles(metrics.queue_wait, by=_BY, stage=STAGE),
            runbooks=["QueueTooOld"],
        ),
        lines(
            "Slots",
            "Busy slots (jobs in progress) and free slots. Without free slots, jobs wait in the queue.",
            COUNT,
            {"{{stage}} busy": busy, "{{stage}} free": f"{slots} - {busy}"},
        ),
        lines(
            "Share of slots busy",
            "If it stays near 100 %, the stage needs another worker.",
            SHARE,
            {"{{stage}}": f"{busy} / {slots}"},
            limit=0.9,
        ),
        lines(
            "Event loop lag, p99",
            "Delay of the event loop's wake-ups. Above the line, something blocks the loop, or the machine has too few "
            "cores.",
            SECONDS,
            percentiles(metrics.loop_lag, (0.99,), by=("stage", "instance"), stage=STAGE),
            limit=LOOP_LAG_S,
            runbooks=["EventLoopLag"],
        ),
    ]


def _speed() -> list[Panel]:
    return [
        lines(
            "Job duration",
            "Duration of jobs (utterances, replies, sentences) by engine, excluding queueing. The vad stage is not "
            "included: its jobs last as long as the session.",
            SECONDS,
            percentiles(metrics.stage_duration, by=_WITH_ENGINE, stage=STAGE, engine=ENGINE),
        ),
        lines(
            "Real-time factor",
            "Seconds of processing per second of audio. Above the line the stage does not keep up, and playback has "
            "gaps: use a smaller model, a faster device or fewer slots.",
            SHARE,
            percentiles(metrics.realtime_factor, (0.5, 0.95), by=_WITH_ENGINE, stage=STAGE, engine=ENGINE),
            limit=1.0,
        ),
        lines(
            "Batch size",
            "Requests in one call of the model, across sessions. If it is 1 under load, batch_ms is too short, or "
            "batch is 1.",
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
            "Tokens, per minute",
            "Tokens of chat models, if the engine reports them. Prompt: not cached; cached: prompt tokens from the "
            "cache. If little is cached, turns do not share a prefix.",
            PER_MINUTE,
            {"{{engine}} {{direction}}": per_minute(metrics.llm_tokens, ("engine", "direction"), engine=ENGINE)},
            stacked=True,
        ),
        lines(
            "Length of prompts",
            "Tokens of one prompt, if the engine reports them. The longer the prompt, the later the first token. "
            "PARLEY_CONTEXT_TOKENS limits it.",
            COUNT,
            percentiles(metrics.llm_prompt, by=("engine",), engine=ENGINE),
        ),
        lines(
            "Prompts that leave something out, per minute",
            "turns: the oldest turns did not fit into the window; results: the middle of a long tool result; refused: an "
            "endpoint refused a longer prompt. If replies forget what was said, raise PARLEY_CONTEXT_TOKENS.",
            PER_MINUTE,
            {"{{engine}} {{reason}}": per_minute(metrics.llm_shortened, ("engine", "reason"), engine=ENGINE)},
        ),
        lines(
            "Summaries of long conversations, per minute",
            "By outcome; PARLEY_SUMMARIES switches them on. If they fail, the log of the llm worker says why.",
            PER_MINUTE,
            {"{{engine}} {{outcome}}": per_minute(metrics.llm_summaries, ("engine", "outcome"), engine=ENGINE)},
        ),
        lines(
            "Time to first token",
            "Of the chat model, excluding queueing. If it is slow, check the prompts' length, the device's load or the "
            "endpoint.",
            SECONDS,
            percentiles(metrics.llm_first_token, by=("engine",), engine=ENGINE),
            runbooks=["TurnLatencyBudget"],
        ),
        lines(
            "Characters synthesised, per minute",
            "Characters sent to the synthesiser, including interrupted replies and retries.",
            PER_MINUTE,
            {"{{engine}}": per_minute(metrics.tts_characters, ("engine",), engine=ENGINE)},
        ),
        lines(
            "Speech recognised, seconds per minute",
            "Audio sent to the recogniser; 60 is one person who talks all the time.",
            PER_MINUTE,
            {"{{engine}}": per_minute(metrics.asr_seconds, ("engine",), engine=ENGINE)},
        ),
        lines(
            "Requests to endpoints, per minute",
            "Requests by outcome. The fallback is used if the first endpoint failed twice, or with an error that a "
            "retry cannot fix.",
            PER_MINUTE,
            {"{{stage}} {{endpoint}} {{outcome}}": per_minute(requests, ("stage", "endpoint", "outcome"), stage=STAGE)},
            runbooks=["EndpointFailing"],
        ),
        lines(
            "Share of requests to endpoints that failed",
            "Without cancelled requests. If it stays above the line for minutes, an alert fires.",
            SHARE,
            {"{{stage}} {{endpoint}}": f"1 - {done} / {wanted}"},
            limit=ENDPOINT_FAILURES,
            runbooks=["EndpointFailing"],
        ),
    ]


def _failures() -> list[Panel]:
    panels: tuple[tuple[str, str, Counter, list[str]], ...] = (
        (
            "Jobs reclaimed",
            "Jobs taken over from another worker. A few are normal during a deployment; otherwise a worker died.",
            metrics.reclaims,
            ["LeaseSilent"],
        ),
        (
            "Leases lost",
            "Jobs of this worker that another worker took over: this worker stalled for longer than lease_ms.",
            metrics.leases_lost,
            ["LeaseSilent", "EventLoopLag"],
        ),
        (
            "Dead letters",
            "Jobs given up after their last attempt: the turn failed. The broker's stream dead:<stage> has the errors.",
            metrics.dead_letters,
            ["DeadLetters"],
        ),
        (
            "Bad frames",
            "Invalid entries, written by another version of Parley or by another program.",
            metrics.bad_frames,
            ["DeadLetters"],
        ),
    )
    work = {"{{stage}} {{outcome}}": per_minute(metrics.work_done, ("stage", "outcome"), stage=STAGE)}
    about = "Ended jobs by outcome. Failed jobs are retried, and finally become dead letters."
    return [
        lines("Jobs ended, per minute", about, PER_MINUTE, work, runbooks=["DeadLetters"]),
        *(
            lines(
                f"{title}, per minute",
                about,
                PER_MINUTE,
                {
                    "all": promql.or_zero(per_minute(counter, stage=STAGE)),
                    "{{stage}}": per_minute(counter, _BY, stage=STAGE),
                },
                runbooks=runbooks,
            )
            for title, about, counter, runbooks in panels
        ),
    ]


def _versions() -> list[Panel]:
    processes = gauge(metrics.build_info, "count", ("stage", "version", "python", "engine"), stage=STAGE)
    about = (
        "Number of processes by version and engine. Two versions of a stage: a deployment is in progress or incomplete."
    )
    return [rows("Processes", about, COUNT, processes)]
