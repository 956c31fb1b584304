"""The broker dashboard: availability, memory, queue lag and latency of Redis."""

from grafana_foundation_sdk.models import units

from dashboards.board import Row, board
from dashboards.chosen import failures, gauge, percentiles
from dashboards.panels import BYTES, COUNT, GREEN, PER_MINUTE, RED, SECONDS, SHARE, Panel, figure, lines
from shared.observability import metrics


def build() -> dict[str, str]:
    return board(
        "broker",
        "Broker",
        "Redis or Valkey, which all processes share. Every edge reports its gauges; the panels show the maximum.",
        [Row(10, "Health", _health()), Row(20, "Streams", _streams()), Row(30, "Latency and connections", _latency())],
    )


def _health() -> list[Panel]:
    memory, limit = gauge(metrics.broker_memory, "max"), gauge(metrics.broker_memory_limit, "max")
    return [
        figure(
            "Reachable",
            "Share of the edges that the broker answers. On the others, all sessions have ended.",
            SHARE,
            gauge(metrics.broker_up, "avg"),
            steps=((None, RED), (1, GREEN)),
            runbooks=["BrokerGone"],
        ),
        figure(
            "Memory in use",
            "Share of its limit. A full broker refuses all writes: raise maxmemory, or find the stream that grows.",
            SHARE,
            f"{memory} / {limit}",
            steps=((None, GREEN), (0.8, RED)),
            decimals=1,
            runbooks=["BrokerMemory"],
        ),
        figure(
            "Clients",
            "Connections to the broker. Each process has a few; a constant rise means that connections leak.",
            COUNT,
            gauge(metrics.broker_clients, "max"),
        ),
        figure(
            "Keys",
            "Keys in the broker, several per session. The number must fall when sessions end.",
            COUNT,
            gauge(metrics.broker_keys, "max"),
        ),
        lines(
            "Memory",
            "Memory used, and its limit: maxmemory, or the machine's memory if that is not set.",
            BYTES,
            {"in use": memory, "limit": limit},
            span=12,
            runbooks=["BrokerMemory"],
        ),
        lines(
            "Commands per second",
            "Commands that the broker processes, in one thread. If the rate stops growing with the calls, it is the "
            "limit.",
            units.OpsPerSecond,
            {"commands": gauge(metrics.broker_commands, "max")},
            span=12,
        ),
    ]


def _streams() -> list[Panel]:
    return [
        lines(
            "Stream length",
            "Entries in each jobs and dead-letter stream. A stream that only grows is not read or not trimmed.",
            COUNT,
            {"{{stream}}": gauge(metrics.stream_length, "max", ("stream",))},
            runbooks=["BrokerMemory"],
        ),
        lines(
            "Waiting jobs",
            "Jobs that wait for a worker, by stream. Normally near 0; if it grows, that stage needs more workers.",
            COUNT,
            {"{{stream}}": gauge(metrics.stream_lag, "max", ("stream",))},
            runbooks=["QueueTooOld", "NoReadyWorker"],
        ),
        lines(
            "Oldest lease renewal",
            "Longest time since a worker renewed the lease of a job. Above lease_ms, another worker should have "
            "taken the job over.",
            SECONDS,
            {"{{stream}}": gauge(metrics.oldest_pending, "max", ("stream",))},
            runbooks=["LeaseSilent"],
        ),
    ]


def _latency() -> list[Panel]:
    return [
        lines(
            "Write latency",
            "From the gathering of a write to the broker's reply, by stage. If all stages are slow, check the broker "
            "and the network; if one is, check its event loop.",
            SECONDS,
            percentiles(metrics.publish_seconds, (0.5, 0.99), by=("stage",)),
        ),
        lines(
            "Read latency",
            "From the writing of an entry to its reader, by stage. Most of it is the pause between reads "
            "(read_pace_ms).",
            SECONDS,
            percentiles(metrics.read_seconds, (0.5, 0.99), by=("stage",)),
        ),
        lines(
            "Lost connections, per minute",
            "Lost connections to the broker, by stage. If an edge loses its connection, all of its sessions end.",
            PER_MINUTE,
            failures(metrics.reconnects, "stage"),
            runbooks=["BrokerGone"],
        ),
        lines(
            "Clock skew",
            "Each host's clock minus the broker's. Metrics are corrected for it, traces and logs are not: check NTP.",
            SECONDS,
            {"{{stage}} {{instance}}": gauge(metrics.clock_skew, "max", ("stage", "instance"))},
            runbooks=["ClockSkew"],
        ),
    ]
