"""Edge: who is connected, how sessions begin and end, the audio both ways, and what each process takes of its machine."""

from dashboards.board import Row, board
from dashboards.chosen import failures, foreign, gauge, per_minute, percentiles, rate
from dashboards.panels import BYTES, COUNT, PER_MINUTE, SECONDS, SHARE, Panel, lines
from dashboards.promql import WINDOW, or_zero
from shared.observability import metrics


def build() -> dict[str, str]:
    """Its file name and its JSON."""
    return board(
        "edge",
        "Edge",
        "The side that clients see, and the processes of all stages.",
        [Row(10, "Sessions", _sessions()), Row(20, "Audio", _audio()), Row(30, "Processes", _processes())],
    )


def _sessions() -> list[Panel]:
    return [
        lines(
            11,
            "Connections",
            "Sessions that each edge serves, by protocol. Uneven edges: the balancer keeps to old connections.",
            COUNT,
            {"{{protocol}} {{instance}}": gauge(metrics.sessions_active, by=("protocol", "instance"))},
            stacked=True,
        ),
        lines(
            12,
            "Closed, per minute",
            "Connections by the code that the edge closed them with. 1000: in order; 1008: refused what the client "
            "sent; 1011: an error of ours, see the logs; 1012: the server or its broker went away; 1013: too much is "
            "unread; client: it left.",
            PER_MINUTE,
            {"{{code}} {{protocol}}": per_minute(metrics.closes, ("code", "protocol"))},
            runbooks=["SessionsRefused"],
        ),
        lines(
            13,
            "Ended, per minute",
            "Sessions by how they ended, by protocol. Failed: by an error of ours, or as the server or its broker went "
            "away.",
            PER_MINUTE,
            {"{{outcome}} {{protocol}}": per_minute(metrics.sessions_total, ("outcome", "protocol"))},
        ),
        lines(
            14,
            "Set-up",
            "From the client's wish to begin to its session's first entry, read back from the broker. Slow: the broker "
            "is, or the edge stalls.",
            SECONDS,
            percentiles(metrics.session_setup),
            runbooks=["SessionSetupBudget"],
        ),
        lines(
            15,
            "Refused, per minute",
            "Sessions that were turned away, by reason.",
            PER_MINUTE,
            failures(metrics.sessions_refused, "reason"),
            runbooks=["SessionsRefused", "SessionSetupBudget"],
        ),
        lines(
            16,
            "Barge-in, by protocol",
            "From speech into a reply to its silence, p95. One protocol alone: its clients send audio in large pieces.",
            SECONDS,
            percentiles(metrics.barge_in, (0.5, 0.95), by=("protocol",)),
            runbooks=["BargeInBudget"],
        ),
    ]


def _audio() -> list[Panel]:
    return [
        lines(
            21,
            "Audio in and out",
            "Seconds of audio per second. In: near the number of calls, as microphones never stop.",
            SECONDS,
            {"{{direction}} {{protocol}}": rate(metrics.audio_seconds, by=("direction", "protocol"))},
        ),
        lines(
            22,
            "Underruns, per minute",
            "A client had played all of a reply before the next of it came: a gap was heard. Look at the tts stage's "
            "real-time factor.",
            PER_MINUTE,
            failures(metrics.underruns, "protocol"),
        ),
        lines(
            23,
            "Dropped, per minute",
            "Data that was thrown away, by reason.",
            PER_MINUTE,
            failures(metrics.dropped, "reason"),
        ),
        lines(
            24,
            "Replies resumed, per minute",
            "Replies that went on after an interruption that was none: a cough, an echo.",
            PER_MINUTE,
            {"resumed": or_zero(per_minute(metrics.resumes))},
        ),
        lines(
            25,
            "Interrupted turns, per minute",
            "People who spoke into a reply. Many: replies are too long, or an echo is taken for speech.",
            PER_MINUTE,
            {"interrupted": or_zero(per_minute(metrics.turns_total, outcome="interrupted"))},
        ),
        lines(
            26,
            "Voice to voice, by protocol",
            "From the end of speech to the first audio sent.",
            SECONDS,
            percentiles(metrics.turn_latency, (0.5, 0.95), by=("protocol",)),
            runbooks=["TurnLatencyBudget"],
        ),
    ]


def _processes() -> list[Panel]:
    process = ("stage", "instance")
    return [
        lines(
            31,
            "CPU",
            "Cores that each process takes. An edge near 1 is full, as its event loop has one: start another.",
            COUNT,
            {"{{stage}} {{instance}}": foreign("process_cpu_seconds_total", window=WINDOW, by=process)},
            runbooks=["EventLoopLag"],
        ),
        lines(
            32,
            "Memory",
            "Resident memory of each process. It rises with sessions and falls, or stays, when they end.",
            BYTES,
            {"{{stage}} {{instance}}": foreign("process_resident_memory_bytes", by=process)},
        ),
        lines(
            33,
            "Open files",
            "Share of the files and connections that each process may open. Near 100 % it takes no more: ulimit -n.",
            SHARE,
            {
                "{{stage}} {{instance}}": f"{foreign('process_open_fds', by=process)} / "
                f"{foreign('process_max_fds', by=process)}"
            },
        ),
    ]
