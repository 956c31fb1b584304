"""The edge dashboard: sessions, audio in both directions, and the resources of all processes."""

from dashboards.board import Row, board
from dashboards.chosen import failures, foreign, gauge, per_minute, percentiles, rate
from dashboards.panels import BYTES, COUNT, PER_MINUTE, SECONDS, SHARE, Panel, lines
from dashboards.promql import WINDOW, or_zero
from shared.observability import metrics


def build() -> dict[str, str]:
    return board(
        "edge",
        "Edge",
        "Client connections and audio, and the processes of all stages.",
        [Row(10, "Sessions", _sessions()), Row(20, "Audio", _audio()), Row(30, "Processes", _processes())],
    )


def _sessions() -> list[Panel]:
    return [
        lines(
            "Connections",
            "Sessions in progress, by edge and protocol. If edges are uneven, the load balancer does not spread new "
            "ones.",
            COUNT,
            {"{{protocol}} {{instance}}": gauge(metrics.sessions_active, by=("protocol", "instance"))},
            stacked=True,
        ),
        lines(
            "Closed, per minute",
            "Closed connections by close code. 1000: normal; 1008: invalid message from the client; 1011: internal "
            "error, see the logs; 1012: the server stopped or lost its broker; 1013: the client reads too slowly; "
            "client: the client closed.",
            PER_MINUTE,
            {"{{code}} {{protocol}}": per_minute(metrics.closes, ("code", "protocol"))},
            runbooks=["SessionsRefused"],
        ),
        lines(
            "Ended, per minute",
            "Ended sessions by outcome and protocol. Failed: an internal error, a stopped server or a lost broker.",
            PER_MINUTE,
            {"{{outcome}} {{protocol}}": per_minute(metrics.sessions_total, ("outcome", "protocol"))},
        ),
        lines(
            "Session set-up",
            "From the client's request to the session's first log entry, read back from the broker. If it is slow, "
            "check the broker's latency and the edge's event loop.",
            SECONDS,
            percentiles(metrics.session_setup),
            runbooks=["SessionSetupBudget"],
        ),
        lines(
            "Refused, per minute",
            "Refused sessions, by reason.",
            PER_MINUTE,
            failures(metrics.sessions_refused, "reason"),
            runbooks=["SessionsRefused", "SessionSetupBudget"],
        ),
        lines(
            "Barge-in, by protocol",
            "From speech during a reply to its silence. If one protocol is slow, its clients send audio in large "
            "chunks.",
            SECONDS,
            percentiles(metrics.barge_in, (0.5, 0.95), by=("protocol",)),
            runbooks=["BargeInBudget"],
        ),
    ]


def _audio() -> list[Panel]:
    return [
        lines(
            "Audio in and out",
            "Seconds of audio per second. In: close to the number of calls, as microphones send all the time.",
            SECONDS,
            {"{{direction}} {{protocol}}": rate(metrics.audio_seconds, by=("direction", "protocol"))},
        ),
        lines(
            "Playback underruns, per minute",
            "Gaps in playback: the client had played all received audio of an unfinished reply. Check the tts stage's "
            "real-time factor.",
            PER_MINUTE,
            failures(metrics.underruns, "protocol"),
        ),
        lines(
            "Dropped, per minute",
            "Dropped data, by reason.",
            PER_MINUTE,
            failures(metrics.dropped, "reason"),
        ),
        lines(
            "Replies resumed, per minute",
            "Replies resumed after a false interruption, such as a cough or an echo.",
            PER_MINUTE,
            {"resumed": or_zero(per_minute(metrics.resumes))},
        ),
        lines(
            "Interrupted turns, per minute",
            "Turns whose reply was interrupted. If there are many, replies are too long, or echo is detected as "
            "speech.",
            PER_MINUTE,
            {"interrupted": or_zero(per_minute(metrics.turns_total, outcome="interrupted"))},
        ),
        lines(
            "Failed and cut turns, per minute",
            "Turns that failed, and completed turns whose reply was cut, by reason. max_output_tokens: raise "
            "PARLEY_REPLY_TOKENS, or ask for shorter replies in the instructions.",
            PER_MINUTE,
            failures(metrics.turn_reasons, "reason"),
        ),
        lines(
            "Spoken apologies, per minute",
            "What callers heard instead of a reply that failed. tone: the voice had not spoken the sentence beforehand; "
            "check the tts stage.",
            PER_MINUTE,
            {"{{sound}}": per_minute(metrics.apologies, ("sound",))},
        ),
        lines(
            "Voice to voice, by protocol",
            "From the end of speech to the first audio sent by the edge.",
            SECONDS,
            percentiles(metrics.turn_latency, (0.5, 0.95), by=("protocol",)),
            runbooks=["TurnLatencyBudget"],
        ),
    ]


def _processes() -> list[Panel]:
    process = ("stage", "instance")
    return [
        lines(
            "CPU",
            "CPU cores used by each process. An edge near 1 is at its limit, as its event loop uses one core: start "
            "another.",
            COUNT,
            {"{{stage}} {{instance}}": foreign("process_cpu_seconds_total", window=WINDOW, by=process)},
            runbooks=["EventLoopLag"],
        ),
        lines(
            "Memory",
            "Resident memory of each process. It rises with sessions, and must not rise further after they end.",
            BYTES,
            {"{{stage}} {{instance}}": foreign("process_resident_memory_bytes", by=process)},
        ),
        lines(
            "Open files",
            "Open file descriptors as a share of the process's limit. At 100 % it accepts no connections: raise "
            "ulimit -n.",
            SHARE,
            {
                "{{stage}} {{instance}}": f"{foreign('process_open_fds', by=process)} / "
                f"{foreign('process_max_fds', by=process)}"
            },
        ),
    ]
