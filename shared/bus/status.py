"""How the broker and the shared streams are doing."""

from dataclasses import dataclass
from typing import Any

from shared.bus.bus import Bus
from shared.bus.connection import BrokerRefused
from shared.settings import STAGES

MOST_PENDING = 1_000
"""Leases that are looked at: those that were renewed lately are not among them."""
SILENT_MS = 500


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream that all sessions share."""

    name: str
    length: int
    lag: int | None = None
    """Entries that were not handed out; None: not known, or nobody hands them out."""
    oldest_pending_s: float = 0.0
    """Longest silence of a worker over work that it has in hand."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The broker, as it says itself."""

    server: str
    memory_bytes: int
    memory_limit_bytes: int
    """Its maxmemory, or else the machine's memory."""
    clients: int
    commands_per_s: int
    keys: int
    streams: tuple[StreamStatus, ...]


async def broker_status(bus: Bus) -> BrokerStatus:
    """Ask for all of it; a handful of commands."""
    info = _parse(await bus.call("INFO"))
    name = "valkey" if "valkey_version" in info else "redis"
    streams = [await _jobs(bus, stage) for stage in STAGES]
    dead = [StreamStatus(f"dead:{stage}", int(await bus.call("XLEN", bus.keys.dead(stage)))) for stage in STAGES]
    return BrokerStatus(
        f"{name} {info.get(f'{name}_version', '?')}",
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0)),
        int(info.get("connected_clients", 0)),
        int(info.get("instantaneous_ops_per_sec", 0)),
        int(await bus.call("DBSIZE")),
        (*streams, *dead),
    )


async def _jobs(bus: Bus, stage: str) -> StreamStatus:
    """The stream of a stage's jobs."""
    name, stream = f"jobs:{stage}", bus.keys.jobs(stage)
    length = int(await bus.call("XLEN", stream))
    try:
        groups = [_pairs(group) for group in await bus.call("XINFO", "GROUPS", stream)]
        held = await bus.call("XPENDING", stream, stage, "IDLE", SILENT_MS, "-", "+", MOST_PENDING)
    except BrokerRefused:
        return StreamStatus(name, length, lag=length)  # no worker of this stage has ever been here
    lag = next((group.get(b"lag") for group in groups if group.get(b"name") == stage.encode()), None)
    silent_ms = max((int(entry[2]) for entry in held), default=0)
    return StreamStatus(name, length, None if lag is None else int(lag), silent_ms / 1000)


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _parse(info: bytes) -> dict[str, str]:
    """The lines `name:value` of INFO."""
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
