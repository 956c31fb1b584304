"""A caller who shares the edge with a burden: how long a ping takes, and a typed turn to its first audio."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

PING_S = 0.02
TURN_S = 2.0
PATIENCE_S = 60.0


@dataclass
class Waits:
    """How long one caller waited, in ms."""

    pings: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was measured so far."""
        self.pings.clear()
        self.turns.clear()

    def figures(self) -> dict[str, float]:
        return {
            "ping p50": _percentile(self.pings, 50),
            "ping p99": _percentile(self.pings, 99),
            "ping max": _percentile(self.pings, 100),
            "turn p50": _percentile(self.turns, 50),
            "turn max": _percentile(self.turns, 100),
        }


@asynccontextmanager
async def neighbour(url: str) -> AsyncIterator[Waits]:
    """Two sessions, one that pings and one that talks, for as long as the context lasts."""
    waits = Waits()
    target = f"ws{url.removeprefix('http')}/ws?rate=16000"
    async with (
        connect(target, compression=None) as pinging,
        connect(target, compression=None) as talking,
        asyncio.TaskGroup() as tasks,
    ):
        running = (tasks.create_task(_ping(pinging, waits)), tasks.create_task(_talk(talking, waits)))
        yield waits
        for task in running:
            task.cancel()


async def _ping(socket: ClientConnection, waits: Waits) -> None:
    await _started(socket)
    while True:
        began_s = time.monotonic()
        try:
            await socket.send('{"type":"ping"}')
            async with asyncio.timeout(PATIENCE_S):
                await _until(socket, "pong")
        finally:  # also if the measurement ends meanwhile
            took_s = time.monotonic() - began_s
            waits.pings.append(1000 * took_s)
        await asyncio.sleep(max(0.0, PING_S - took_s))


async def _talk(socket: ClientConnection, waits: Waits) -> None:
    await _started(socket)
    while True:
        began_s = time.monotonic()
        try:
            await socket.send('{"type":"text_input","text":"hello"}')
            async with asyncio.timeout(PATIENCE_S):
                while not isinstance(await socket.recv(), bytes):
                    pass
        finally:
            waits.turns.append(1000 * (time.monotonic() - began_s))
        await _until(socket, "reply_done")
        await asyncio.sleep(max(0.0, began_s + TURN_S - time.monotonic()))


async def _started(socket: ClientConnection) -> None:
    await socket.send('{"type":"start_streaming"}')
    await _until(socket, "ready")


async def _until(socket: ClientConnection, kind: str) -> None:
    while True:
        message = await socket.recv()
        if isinstance(message, str) and json.loads(message)["type"] == kind:
            return


def _percentile(values: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 1) if values else float("nan")
