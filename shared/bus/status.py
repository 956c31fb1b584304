"""The status of the broker, its jobs streams and its dead-letter streams."""

from dataclasses import dataclass

from shared.bus.bus import Bus
from shared.bus.connection import BrokerLostData
from shared.bus.versions import parse_info, server_version
from shared.settings import STAGES

MAX_PENDING = 1_000
"""Leases that are examined per stream."""
SILENT_MS = 1500
"""Leases renewed within this time are skipped."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream that all sessions share."""

    name: str
    length: int
    lag: int | None = None
    """Entries not yet delivered to a worker; None if unknown, or if no group reads the stream."""
    oldest_pending_s: float = 0.0
    """Longest time since a lease in the stream was renewed."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    server: str
    """Name and version."""
    memory_bytes: int
    memory_limit_bytes: int
    """Its maxmemory; the machine's memory if that is not set."""
    clients: int
    commands_per_s: int
    keys: int
    streams: tuple[StreamStatus, ...]
    eviction_policy: str = "noeviction"
    """What it does when its memory is full: see `eviction_problem`."""


async def broker_status(bus: Bus) -> BrokerStatus:
    """Query the broker, with about 20 commands. Raises as `Bus.call`."""
    info = parse_info(await bus.call("INFO"))
    name, version = server_version(info)
    streams = [await _jobs(bus, stage) for stage in STAGES]
    dead = [StreamStatus(f"dead:{stage}", int(await bus.call("XLEN", bus.keys.dead(stage)))) for stage in STAGES]
    return BrokerStatus(
        f"{name.lower()} {version}",
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0)),
        int(info.get("connected_clients", 0)),
        int(info.get("instantaneous_ops_per_sec", 0)),
        int(await bus.call("DBSIZE")),
        (*streams, *dead),
        info.get("maxmemory_policy", ""),
    )


async def _jobs(bus: Bus, stage: str) -> StreamStatus:
    name, stream = f"jobs:{stage}", bus.keys.jobs(stage)
    length = int(await bus.call("XLEN", stream))
    try:
        groups = [
            dict(zip(group[::2], group[1::2], strict=True)) for group in await bus.call("XINFO", "GROUPS", stream)
        ]
        held = await bus.call("XPENDING", stream, stage, "IDLE", SILENT_MS, "-", "+", MAX_PENDING)
    except BrokerLostData:  # there is no group: no worker of this stage has ever connected
        return StreamStatus(name, length, lag=length)
    lag = next((group.get(b"lag") for group in groups if group.get(b"name") == stage.encode()), None)
    silent_ms = max((int(entry[2]) for entry in held), default=0)
    return StreamStatus(name, length, None if lag is None else int(lag), silent_ms / 1000)
