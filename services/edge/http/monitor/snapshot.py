"""What `/monitor` shows of a system at one moment: values in, JSON out. Pure."""

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
"""A turn whose first audio comes later is slow: the threshold of the SLO."""
LONGEST_MS = 86_400_000
"""A mark further away is no time: two of them may have no difference that is a number."""
LATEST, SLOWEST, SESSIONS = 30, 10, 50
"""Turns and sessions that are listed; the figures are of all."""

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
    """All of it. `now_ms` is the broker's clock; `turns`: rows of the latest, the oldest first; `sessions`: protocol and
    figures of each of this edge's sessions."""
    rows = turns[::-1]
    here = sorted((_session(protocol, stats) for protocol, stats in sessions), key=lambda row: float(row["seconds"]))
    slow = sorted((row for row in rows if row["slow"]), key=lambda row: -float(row["first_audio_ms"]))
    return {
        "now_ms": now_ms,
        "slow_ms": SLOW_MS,
        "refusal": refusal,
        "stages": [_stage(stage, statuses.get(stage), queue_age_limit_ms) for stage in STAGES],
        "gpus": _gpus(statuses),
        "broker": None if broker is None else asdict(broker),
        "latency": latency(rows),
        "sessions": {"count": len(here), "newest": here[:SESSIONS]},
        "turns": rows[:LATEST],
        "slow_turns": slow[:SLOWEST],
    }


# -- turns ----------------------------------------------------------------------------------------


def turn_row(entry_id: str, record: TurnRecord) -> Row:
    """A turn that is over, with its id in the broker and its parts; marks that are no times are left out."""
    marks = {name: round(float(ms), 1) for name, ms in record.marks.items() if abs(ms) <= LONGEST_MS}
    first_audio_ms = marks.get("first_audio")
    return {
        **{name: getattr(record, name) for name in TurnRecord.__slots__},
        "id": entry_id,
        "marks": marks,
        "segments": [
            {
                "name": part.name,
                "stage": part.stage,
                "begin_ms": round(part.begin_ms, 1),
                "end_ms": round(part.end_ms, 1),
            }
            for part in segments(marks)
        ],
        "first_audio_ms": first_audio_ms,
        "slow": record.spoken and first_audio_ms is not None and first_audio_ms > SLOW_MS,
    }


def latency(rows: Sequence[Row]) -> dict[str, Any]:
    """p50 and p95 of the whole and of each part, in ms, over the spoken turns whose reply had audio."""
    heard = [row for row in rows if row["spoken"] and row["first_audio_ms"] is not None]
    taken: dict[str, list[float]] = {name: [] for name in SEGMENTS}
    for part in (part for row in heard for part in row["segments"]):
        taken[part["name"]].append(max(0.0, part["end_ms"] - part["begin_ms"]))
    return {
        "turns": len(rows),
        "failed": sum(row["outcome"] == "failed" for row in rows),
        "slow": sum(row["slow"] for row in heard),
        "total": _percentiles([row["first_audio_ms"] for row in heard]),
        "segments": [{"name": name, "stage": SEGMENTS[name], **_percentiles(ms)} for name, ms in taken.items()],
    }


def _percentiles(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"n": 0, "p50_ms": None, "p95_ms": None}
    p50, p95 = np.percentile(values, (50, 95))
    return {"n": len(values), "p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1)}


# -- stages ---------------------------------------------------------------------------------------


def _stage(stage: str, status: StageStatus | None, queue_age_limit_ms: int) -> dict[str, Any]:
    workers = [] if status is None else [_worker(info, status.loads) for info in status.workers]
    slots = sum(worker["slots"] or 0 for worker in workers)
    free = sum(worker["free"] or 0 for worker in workers)
    queue_age_ms = 0 if status is None else status.queue_age_ms
    if status is None:
        state = "unknown"
    elif not workers:
        state = "missing"
    elif queue_age_ms > queue_age_limit_ms:
        state = "behind"
    else:
        state = "full" if slots and not free else "ready"
    return {
        "stage": stage,
        "state": state,
        "engine": ", ".join(sorted({worker["engine"] for worker in workers})),
        "queue_age_ms": queue_age_ms,
        "in_hand": 0 if status is None else status.in_hand,
        "slots": slots,
        "free": free,
        "workers": workers,
    }


def _worker(info: Mapping[str, Any], loads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One ready worker; None where it does not say how busy it is."""
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
    """Each GPU once, however many workers are on it, with what each of them holds of its memory."""
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
    wanted = ("seconds", "turn", "turns", "interrupted", "stale", "dropped_samples")
    return {"id": stats["session_id"], "protocol": protocol, **{name: stats[name] for name in wanted}}


def _host_and_process(consumer: str) -> str:
    """`asr:host:pid:random` without its ends."""
    return ":".join(consumer.split(":")[1:-1]) or consumer


def _number(value: object) -> Any:
    """What another process wrote, if it is a number that JSON has."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
