"""Internal conditions, and the alerts that they must raise."""

from tests.commands.dashboards.scenario import ABSENT, STALE, Scenario, counts, holds, ticket

SCRAPED = 'job="parley", stage="tts", instance="gpu-1:9100"'
TARGETS = ("vad", "asr", "llm", "edge")
ONE_REFUSAL = 'parley_sessions_refused_total{reason="unavailable", instance="edge-1"}'
LAG = f"parley_event_loop_lag_seconds_bucket{{{SCRAPED}, "

CAUSES = (
    Scenario(
        "QueueTooOld",
        {
            'parley_queue_age_seconds{stage="asr", instance="edge-1"}': holds((0.5, 5), (3, 5), (0, 5)),
            'parley_queue_age_seconds{stage="asr", instance="edge-2"}': holds((0, 15)),
            'parley_queue_age_seconds{stage="tts", instance="edge-1"}': holds((0.4, 15)),
        },
        {
            4: (),
            5: (),  # too short so far
            9: [
                (
                    ticket(stage="asr"),
                    "The oldest waiting asr job is 3s old. New sessions are refused from 0.5 s on.",
                )
            ],
            10: (),
        },
    ),
    Scenario(
        "NoReadyWorker",
        {
            'parley_ready_workers{stage="tts", instance="edge-1"}': holds((2, 5), (0, 5), (1, 5)),
            'parley_ready_workers{stage="asr", instance="edge-1"}': holds((0, 15)),
            'parley_ready_workers{stage="asr", instance="edge-2"}': holds((1, 15)),
        },
        {
            4: (),
            5: (),
            9: [
                (ticket(stage="tts"), "0 tts workers are ready. New sessions are refused, and turns wait."),
            ],
            10: (),
        },
    ),
    Scenario(
        "LeaseSilent",
        {
            'parley_stream_oldest_pending_seconds{stream="jobs:tts", instance="edge-1"}': holds(
                (10, 5), (11, 5), (0, 5)
            ),
            'parley_stream_oldest_pending_seconds{stream="jobs:llm", instance="edge-1"}': holds((1, 15)),
        },
        {
            4: (),
            5: (),
            9: [
                (
                    ticket(stage="tts", stream="jobs:tts"),
                    (
                        "A worker has not renewed the lease of a job in jobs:tts for 11s, and no other worker has "
                        "taken the job over."
                    ),
                )
            ],
            10: (),
        },
    ),
    Scenario(
        "DeadLetters",
        {
            f"parley_dead_letters_total{{{SCRAPED}}}": counts((0, 4), (3, 1), (0, 30)),
            'parley_dead_letters_total{stage="asr", instance="cpu-1:9100"}': counts((0, 35)),
        },
        {
            4: (),
            5: [
                (
                    ticket(stage="tts"),
                    "3 tts jobs were given up after their last attempt, in the last 15 minutes.",
                )
            ],
            21: (),
        },
    ),
    Scenario(  # the first dead letter of a process: its series appears with the value 1
        "DeadLetters",
        {f"parley_dead_letters_total{{{SCRAPED}}}": holds((ABSENT, 5), (1, 30))},
        {
            4: (),
            6: [
                (
                    ticket(stage="tts"),
                    "1 tts jobs were given up after their last attempt, in the last 15 minutes.",
                )
            ],
            21: (),
        },
    ),
    Scenario(
        "BrokerMemory",
        {
            'parley_broker_memory_bytes{instance="edge-1"}': holds((800, 10), (850, 10), (500, 5)),
            'parley_broker_memory_limit_bytes{instance="edge-1"}': holds((1000, 25)),
        },
        {
            9: (),
            12: (),
            18: [(ticket(), "85% of the broker's memory is used. When it is full, the broker refuses all writes.")],
            20: (),
        },
    ),
    Scenario(
        "BrokerGone",
        {
            'parley_broker_up{instance="edge-1:9104"}': holds((1, 5), (0, 5), (1, 5)),
            'parley_broker_up{instance="edge-2:9104"}': holds((1, 15)),
        },
        {
            4: (),
            5: (),
            9: [
                (
                    ticket(instance="edge-1:9104"),
                    (
                        "The broker does not answer the edge edge-1:9104 (parley_broker_up is 0). All sessions of this "
                        "edge have ended, and new sessions are refused."
                    ),
                )
            ],
            10: (),
        },
    ),
    Scenario(
        "SessionsRefused",
        {ONE_REFUSAL: counts((0, 5), (2, 15), (0, 15))},
        {
            5: (),
            9: (),
            18: [
                (
                    ticket(reason="unavailable"),
                    "10 sessions were refused in the last 5 minutes, for at least 5 minutes. Reason: unavailable.",
                )
            ],
            30: (),
        },
    ),
    Scenario("SessionsRefused", {ONE_REFUSAL: counts((0, 5), (1, 1), (0, 15))}, dict.fromkeys(range(6, 20), ())),
    Scenario("SessionsRefused", {ONE_REFUSAL: holds((ABSENT, 5), (1, 15))}, dict.fromkeys(range(6, 20), ())),
    Scenario(  # the first endpoint fails, and the fallback works; cancelled requests do not count
        "EndpointFailing",
        {
            **{
                f'parley_endpoint_requests_total{{stage="llm", endpoint="first", outcome="{outcome}"}}': counts(*phases)
                for outcome, phases in {
                    "done": ((15, 15), (15, 15), (20, 15)),
                    "failed": ((1, 15), (0, 15), (0, 15)),
                    "timeout": ((0, 15), (5, 15), (0, 15)),
                    "cancelled": ((50, 45),),
                }.items()
            },
            'parley_endpoint_requests_total{stage="llm", endpoint="fallback", outcome="done"}': counts(
                (0, 15), (5, 30)
            ),
            'parley_endpoint_requests_total{stage="llm", endpoint="fallback", outcome="cancelled"}': counts((0, 45)),
        },
        {
            15: (),
            18: (),
            29: [
                (
                    ticket(stage="llm", endpoint="first"),
                    "25% of the requests of the llm stage to its first endpoint failed, in the last 5m.",
                )
            ],
            36: (),
        },
    ),
    Scenario(  # too few requests
        "EndpointFailing",
        {
            f'parley_endpoint_requests_total{{stage="tts", endpoint="first", outcome="{outcome}"}}': counts(*phases)
            for outcome, phases in {"done": ((0, 20),), "failed": ((1, 4), (0, 16)), "cancelled": ((5, 20),)}.items()
        },
        dict.fromkeys(range(2, 20), ()),
    ),
    Scenario(
        "EventLoopLag",
        {
            f'{LAG}le="0.064"}}': counts((100, 15), (95, 15), (100, 15)),
            f'{LAG}le="0.125"}}': counts((100, 15), (95, 15), (100, 15)),
            f'{LAG}le="0.25"}}': counts((100, 45)),
            f'{LAG}le="+Inf"}}': counts((100, 45)),
        },
        {
            15: (),
            18: (),
            29: [
                (
                    ticket(stage="tts", instance="gpu-1:9100"),
                    "The event loop of gpu-1:9100 wakes up 225ms late (99th percentile).",
                )
            ],
            36: (),
        },
    ),
    Scenario(
        "GpuMemory",
        {
            f'parley_gpu_memory_used_bytes{{{SCRAPED}, gpu="0"}}': holds((95, 10), (96, 10), (10, 5)),
            f'parley_gpu_memory_total_bytes{{{SCRAPED}, gpu="0"}}': holds((100, 25)),
            f'parley_gpu_memory_used_bytes{{{SCRAPED}, gpu="1"}}': holds((50, 25)),
            f'parley_gpu_memory_total_bytes{{{SCRAPED}, gpu="1"}}': holds((100, 25)),
        },
        {
            9: (),
            12: (),
            18: [
                (
                    ticket(stage="tts", instance="gpu-1:9100", gpu="0"),
                    "96% of the memory of GPU 0 is used, according to the tts worker gpu-1:9100.",
                )
            ],
            20: (),
        },
    ),
    Scenario(
        "GpuXid",
        {f'parley_gpu_xid_errors_total{{{SCRAPED}, gpu="0"}}': holds((ABSENT, 5), (2, 30))},
        {
            4: (),
            6: [
                (
                    ticket(stage="tts", instance="gpu-1:9100", gpu="0"),
                    (
                        "The driver reported 2 Xid errors of GPU 0 in the last 15 minutes, according to the tts worker "
                        "gpu-1:9100."
                    ),
                )
            ],
            21: (),
        },
    ),
    Scenario(
        "ExporterAbsent",
        {
            **{f'up{{job="parley", stage="{stage}", instance="a"}}': holds((1, 30)) for stage in TARGETS},
            'up{job="parley", stage="tts", instance="a"}': holds((1, 5), (0, 20), (1, 5)),
            'up{job="parley", stage="tts", instance="b"}': holds((1, 10), (STALE, 1)),
        },
        {
            9: (),  # one of two is down
            10: (),  # the other is removed
            15: [
                (
                    ticket(stage="tts"),
                    "Prometheus reaches no process of tts. No other alert of this stage can fire.",
                )
            ],
            26: (),
        },
    ),
    Scenario(
        "ClockSkew",
        {
            f"parley_clock_skew_seconds{{{SCRAPED}}}": holds((-0.25, 10), (-0.3, 10), (0.01, 5)),
            'parley_clock_skew_seconds{stage="edge", instance="edge-1:9104"}': holds((0.1, 25)),
        },
        {
            9: (),
            12: (),
            18: [
                (
                    ticket(stage="tts", instance="gpu-1:9100"),
                    "The clock of gpu-1:9100 (tts) differs from the broker's by 300ms.",
                )
            ],
            20: (),
        },
    ),
)
