"""What it costs the broker to keep its data on disk: entries a second, and the latency of one entry under load."""

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.figures import summary
from benchmarks.result import RESULTS, Out, circumstances, result_path, write_result
from benchmarks.tables import open_console, print_rows
from shared.bus.address import broker_address
from shared.bus.connection import Address, RedisConnection
from shared.bus.status import broker_cpu_s
from tests.support.broker import embedded_broker

PERSISTENCE: dict[str, tuple[str, ...]] = {
    "none": (),
    "RDB, every 10 s": ("--save", "10", "1"),
    "AOF, everysec": ("--appendonly", "yes", "--appendfsync", "everysec"),
    "AOF, always": ("--appendonly", "yes", "--appendfsync", "always"),
}
CHUNK = bytes(640)
"""20 ms of audio."""
PERIOD_S = 0.02
PROBE_S = 0.005
BURST, BURSTS = 1_000, 50


def broker(
    sessions: Annotated[int, typer.Option(min=1, max=1_000, help="Sessions whose audio is written.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Seconds of each run.")] = 20.0,
    out: Out = RESULTS,
) -> None:
    """Measure what persistence costs: the latency of an entry under the load of sessions, and the highest rate."""
    rows = asyncio.run(_measure(sessions, seconds))
    where = circumstances()
    path = result_path(out, "broker", where)
    write_result({**where, "sessions": sessions, "seconds": seconds, "figures": rows}, path)
    console = open_console(sys.stdout)
    cells = [{name: value if isinstance(value, str) else f"{value:.2f}" for name, value in row.items()} for row in rows]
    print_rows(f"{sessions} sessions, {50 * sessions} entries a second", cells, console)
    console.print(f"written to {path}", markup=False)


async def _measure(sessions: int, seconds: float) -> list[dict[str, Any]]:
    return [await _run(name, sessions, seconds) for name in PERSISTENCE]


async def _run(name: str, sessions: int, seconds: float) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        async with embedded_broker(Path(folder), options=PERSISTENCE[name]) as settings:
            return {"persistence": name, **await _figures(broker_address(settings), sessions, seconds)}


async def _figures(address: Address, sessions: int, seconds: float) -> dict[str, float]:
    load, probe = [await RedisConnection.connect(address, role) for role in ("load", "probe")]
    latencies_ms: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(_load(load, sessions))
        await asyncio.sleep(1)
        cpu_s = await broker_cpu_s(probe)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            await probe.call(*_entry(0))
            latencies_ms.append(1000 * (time.monotonic() - began_s))
            await asyncio.sleep(PROBE_S)
        cpu_s = await broker_cpu_s(probe) - cpu_s
        loading.cancel()
    rate = await _highest_rate(probe)
    for connection in (load, probe):
        connection.close()
    found = summary(latencies_ms)
    return {
        "p50, ms": found["p50"],
        "p99, ms": found["p99"],
        "max, ms": found["max"],
        "CPU, % of a core": 100 * cpu_s / seconds,
        "entries a second at most": rate,
    }


def _entry(session: int) -> tuple[bytes | int, ...]:
    return (b"XADD", b"in:%d" % session, b"MAXLEN", b"~", 1500, b"*", b"f", CHUNK)


async def _load(connection: RedisConnection, sessions: int) -> None:
    """Write a chunk of audio for each session every 20 ms, until cancelled."""
    due_s = time.monotonic()
    while True:
        for session in range(1, sessions + 1):
            connection.send(*_entry(session))
        due_s += PERIOD_S
        await asyncio.sleep(due_s - time.monotonic())


async def _highest_rate(connection: RedisConnection) -> float:
    began_s = time.monotonic()
    for _ in range(BURSTS):
        for number in range(BURST - 1):
            connection.send(*_entry(number % 100))
        await connection.call(*_entry(0))  # replies come in order: this is the last one
    return BURSTS * BURST / (time.monotonic() - began_s)
