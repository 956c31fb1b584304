"""Builds the JSON of `/monitor/data`: the state of the system at one moment. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from shared.bus.leases import StageStatus
from shared.bus.status import BrokerStatus
from shared.protocol.turn_record import SEGMENTS, TurnRecord, segments
from shared.settings import STAGES

SLOW_MS = 800
"""A spoken turn with a later first audio is slow; the threshold of the SLO."""
P95_TURNS = 20
"""With fewer turns, the p95 is simply the slowest turn: the maximum is shown instead."""
LONGEST_MS = 86_400_000
"""Marks beyond one day are invalid and left out: the difference of two huge floats may not be a number."""
LATEST, SLOWEST, SESSIONS = 30, 10, 50
"""Longest lists of turns, of earlier slow turns, and of sessions; the figures cover all of them."""

Row = dict[str, Any]


def snapshot(
    *,
    now_ms: int,
    statuses: Mapping[str, StageStatus],
    broker: BrokerStatus | None,
    turns: Sequence[Row],
    sessions: Iterable[tuple[str, Mapping[str, Any]]],
    refusal: str | None,
    queue_age_limit_ms: int,
) -> dict[str, Any]:
    """The whole snapshot.

    `now_ms` is the broker's clock; `turns` are rows of the latest turns, the oldest first; `sessions` has the protocol and
    the figures of each session on this edge.
    """
    rows = turns[::-1]
    sessions_here = sorted(
        (_session(protocol, stats) for protocol, stats in sessions), key=lambda row: float(row["seconds"])
    )
    slow = sorted((row for row in rows[LATEST:] if row["slow"]), key=lambda row: -float(row["first_audio_ms"]))
    return {
        "now_ms": now_ms,
        "slow_ms": SLOW_MS,
        "refusal": refusal,
        "stages": [_stage(stage, statuses.get(stage), queue_age_limit_ms) for stage in STAGES],
        "gpus": _gpus(statuses),
        "broker": None if broker is None else asdict(broker),
        "latency": latency(rows),
        "sessions": {"count": len(sessions_here), "newest": sessions_here[:SESSIONS]},
        "turns": [without_texts(row) for row in rows[:LATEST]],
        "slow_turns": [without_texts(row) for row in slow[:SLOWEST]],
    }


# -- turns ----------------------------------------------------------------------------------------


def turn_row(entry_id: str, record: TurnRecord) -> Row:
    """A finished turn with its entry id and the parts of its latency; invalid marks are left out."""
    marks = {name: round(float(ms), 1) for name, ms in record.marks.items() if abs(ms) <= LONGEST_MS}
    first_audio_ms = marks.get("first_audio")
    return {
        **{name: getattr(record, name) for name in TurnRecord.__slots__},
        "id": entry_id,
        "marks": marks,
        "segments": [
            {**asdict(part), "begin_ms": round(part.begin_ms, 1), "end_ms": round(part.end_ms, 1)}
            for part in segments(marks, spoken=record.spoken)
        ],
        "first_audio_ms": first_audio_ms,
        "slow": is_slow(record),
    }


def is_slow(record: TurnRecord) -> bool:
    first_audio_ms = record.marks.get("first_audio", 0.0)
    return record.spoken and SLOW_MS < first_audio_ms <= LONGEST_MS


def without_texts(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("said", "reply")}


def latency(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of the first audio and of each segment, in ms, over the spoken turns whose reply had audio.

    Typed and requested turns and greetings count only in `turns` and `failed`.
    """
    audible = [row for row in rows if row["spoken"] and row["first_audio_ms"] is not None]
    durations: dict[str, list[float]] = {name: [] for name in SEGMENTS}
    for part in (part for row in audible for part in row["segments"]):
        durations[part["name"]].append(max(0.0, part["end_ms"] - part["begin_ms"]))
    return {
        "turns": len(rows),
        "failed": sum(row["outcome"] == "failed" for row in rows),
        "slow": sum(row["slow"] for row in audible),
        "total": _figures([row["first_audio_ms"] for row in audible]),
        "segments": [{"name": name, "stage": SEGMENTS[name].stage, **_figures(ms)} for name, ms in durations.items()],
    }


def _figures(values: Sequence[float]) -> dict[str, Any]:
    """Median, p95 (None for fewer than `P95_TURNS` values) and maximum."""
    if not values:
        return {"n": 0, "p50_ms": None, "p95_ms": None, "max_ms": None}
    p50, p95, longest = (round(float(value), 1) for value in np.percentile(values, (50, 95, 100)))
    enough = len(values) >= P95_TURNS
    return {"n": len(values), "p50_ms": p50, "p95_ms": p95 if enough else None, "max_ms": longest}


# -- stages ---------------------------------------------------------------------------------------


def _stage(stage: str, status: StageStatus | None, queue_age_limit_ms: int) -> dict[str, Any]:
    known = status or StageStatus((), 0, 0)
    workers = [_worker(info, known.loads) for info in known.workers]
    slots = sum(worker["slots"] or 0 for worker in workers)
    free = sum(worker["free"] or 0 for worker in workers)
    if status is None:
        state = "unknown"
    elif not workers:
        state = "missing"
    elif known.queue_age_ms > queue_age_limit_ms:
        state = "behind"
    else:
        state = "full" if slots and not free else "ready"
    return {
        "stage": stage,
        "state": state,
        "engine": ", ".join(sorted({worker["engine"] for worker in workers})),
        "queue_age_ms": known.queue_age_ms,
        "in_hand": known.in_hand,
        "slots": slots,
        "free": free,
        "workers": workers,
    }


def _worker(info: Mapping[str, Any], loads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One ready worker; values are None if its load report lacks them."""
    consumer = str(info.get("consumer", ""))
    load = loads.get(consumer, {})
    slots, in_hand = _number(load.get("slots")), _number(load.get("in_hand"))
    return {
        "worker": _host_and_process(consumer),
        "engine": str(info.get("engine", "")),
        "slots": slots,
        "in_hand": in_hand,
        "free": None if slots is None or in_hand is None else max(0, slots - in_hand),
        "loop_lag_ms": _number(load.get("loop_lag_ms")),
    }


def _gpus(statuses: Mapping[str, StageStatus]) -> list[dict[str, Any]]:
    """Each GPU once, with the memory of each worker on it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for stage, status in statuses.items():
        for consumer, load in status.loads.items():
            process = _host_and_process(consumer)
            host = process.rpartition(":")[0]
            for gpu in _list(load.get("gpus")):
                index = str(gpu.get("index", "?"))
                shown = found.setdefault((host, index), {"host": host, "index": index, "name": "", "workers": []})
                shown["name"] = str(gpu.get("name") or "GPU")
                for name in ("utilization", "memory_used", "memory_total", "power_w", "temperature_c"):
                    shown[name] = _number(gpu.get(name))
                memory = _number(gpu.get("memory_process"))
                shown["workers"].append({"stage": stage, "worker": process, "memory": memory})
    return [found[key] for key in sorted(found)]


def _session(protocol: str, stats: Mapping[str, Any]) -> dict[str, Any]:
    names = ("seconds", "turn", "turns", "interrupted", "stale", "dropped_samples")
    return {"id": stats["session_id"], "protocol": protocol, **{name: stats[name] for name in names}}


def _host_and_process(consumer: str) -> str:
    """`host:pid` from `asr:host:pid:random`."""
    return ":".join(consumer.split(":")[1:-1]) or consumer


def _number(value: object) -> Any:
    """A number from another process's report; None if it is not a finite number."""
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if valid else None


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
