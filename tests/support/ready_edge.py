"""An edge in the test's own process that takes sessions, with a real broker and stages that only say that they are ready."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.bus.bus import Bus
from shared.bus.leases import READY_TTL_MS, Leases
from shared.settings import STAGES, Settings
from tests.support.edge import Edge, running_edge
from tests.support.waiting import HANG_S


@asynccontextmanager
async def ready_edge(settings: Settings) -> AsyncIterator[Edge]:
    """`settings`: of a running broker."""
    async with Bus.connect(settings, "edge") as bus, running_edge(settings) as edge, asyncio.TaskGroup() as tasks:
        await bus.be_present()
        ready = tasks.create_task(_stay_ready(bus))
        serving = tasks.create_task(edge.gateway.run(bus))
        async with asyncio.timeout(HANG_S):
            while edge.gateway.refusal() is not None:
                await asyncio.sleep(0.01)
        yield edge
        edge.gateway.shutdown.stopping.set()
        await serving
        ready.cancel()


async def _stay_ready(bus: Bus) -> None:
    info = {"engine": "none", "voices": ["anna", "bert"], "languages": ["en", "de"]}
    while True:
        for stage in STAGES:
            await Leases(bus, stage, 2000).ready(info)
        await asyncio.sleep(READY_TTL_MS / 4000)
