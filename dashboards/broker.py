"""Broker: whether Redis answers, how full it is, how far behind its readers are, and how long the way through it takes."""

from grafana_foundation_sdk.models import units

from dashboards.board import Row, board
from dashboards.chosen import failures, gauge, percentiles
from dashboards.panels import BYTES, COUNT, GREEN, PER_MINUTE, RED, SECONDS, SHARE, Panel, figure, lines
from shared.observability import metrics


def build() -> dict[str, str]:
    """Its file name and its JSON."""
    return board(
        "broker",
        "Broker",
        "The one thing that all processes share. Its gauges are told by each edge; the largest is shown.",
        [Row(10, "Its health", _health()), Row(20, "Its streams", _streams()), Row(30, "The way through it", _way())],
    )


def _health() -> list[Panel]:
    memory, limit = gauge(metrics.broker_memory, "max"), gauge(metrics.broker_memory_limit, "max")
    return [
        figure(
            11,
            "Answers",
            "Share of the edges that the broker answers. Below 100 %: no session there can go on.",
            SHARE,
            gauge(metrics.broker_up, "avg"),
            steps=((None, RED), (1, GREEN)),
            runbooks=["BrokerGone"],
        ),
        figure(
            12,
            "Memory in use",
            "Of its limit. Full, it refuses every write: raise maxmemory, or see which stream grows.",
            SHARE,
            f"{memory} / {limit}",
            steps=((None, GREEN), (0.8, RED)),
            decimals=1,
            runbooks=["BrokerMemory"],
        ),
        figure(
            13,
            "Clients",
            "Connections that it has. Each process has a few; more and more of them are leaked.",
            COUNT,
            gauge(metrics.broker_clients, "max"),
        ),
        figure(
            14,
            "Keys",
            "What it holds; some for each session. It must fall again when sessions end.",
            COUNT,
            gauge(metrics.broker_keys, "max"),
        ),
        lines(
            15,
            "Memory",
            "What its data takes, and its limit: maxmemory, or the machine's memory.",
            BYTES,
            {"in use": memory, "limit": limit},
            span=12,
            runbooks=["BrokerMemory"],
        ),
        lines(
            16,
            "Commands per second",
            "What it does. It has one thread: when this no longer grows with the calls, it is the limit.",
            units.OpsPerSecond,
            {"commands": gauge(metrics.broker_commands, "max")},
            span=12,
        ),
    ]


def _streams() -> list[Panel]:
    return [
        lines(
            21,
            "Entries",
            "Length of each shared stream. One that only grows is not read, or not trimmed.",
            COUNT,
            {"{{stream}}": gauge(metrics.stream_length, "max", ("stream",))},
            runbooks=["BrokerMemory"],
        ),
        lines(
            22,
            "Entries that no worker has taken",
            "Lag of each jobs stream. It stays near 0; where it grows, that stage needs more workers.",
            COUNT,
            {"{{stream}}": gauge(metrics.stream_lag, "max", ("stream",))},
            runbooks=["QueueTooOld", "NoReadyWorker"],
        ),
        lines(
            23,
            "Oldest silence over taken work",
            "Longest time for which a worker has not renewed a lease. Beyond lease_ms another worker should have taken "
            "the work over.",
            SECONDS,
            {"{{stream}}": gauge(metrics.oldest_pending, "max", ("stream",))},
            runbooks=["LeaseSilent"],
        ),
    ]


def _way() -> list[Panel]:
    return [
        lines(
            31,
            "Writing",
            "From the first command of a gathered write to the broker's answer, by process. Slow everywhere: the broker "
            "or the network; in one stage: its event loop.",
            SECONDS,
            percentiles(metrics.publish_seconds, (0.5, 0.99), by=("stage",)),
        ),
        lines(
            32,
            "Reading",
            "From the writing of an entry to its reader, by process. Most of it is the pace of reading (read_pace_ms).",
            SECONDS,
            percentiles(metrics.read_seconds, (0.5, 0.99), by=("stage",)),
        ),
        lines(
            33,
            "Broken connections, per minute",
            "Connections to the broker that were lost, by process. Sessions survive a short loss of it, not a long one.",
            PER_MINUTE,
            failures(metrics.reconnects, "stage"),
            runbooks=["BrokerGone"],
        ),
        lines(
            34,
            "Clock skew",
            "Each host's clock less the broker's. Times are corrected for it, traces and logs are not: see to NTP.",
            SECONDS,
            {"{{stage}} {{instance}}": gauge(metrics.clock_skew, "max", ("stage", "instance"))},
            runbooks=["ClockSkew"],
        ),
    ]
