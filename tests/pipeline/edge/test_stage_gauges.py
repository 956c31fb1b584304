"""The edge's gauges of broker and stages: exported while the broker is connected, and removed when it is not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.edge.gateway.gateway import Gateway
from shared.bus.bus import Bus
from shared.bus.status import StreamStatus, broker_status
from shared.protocol.frames import TranscriptFinal
from shared.protocol.session import ReplyOptions
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings


def exported() -> set[str]:
    """The gauges of the broker and the stages that have a value."""
    prefixes = ("parley_broker_", "parley_stream_", "parley_queue_age", "parley_ready_workers")
    families = [family for family in REGISTRY.collect() if family.name.startswith(prefixes) and family.type == "gauge"]
    return {sample.name for family in families for sample in family.samples}


async def test_gauges_of_a_lost_broker_are_removed(where: Settings) -> None:
    shutdown = Shutdown(1)
    gateway = Gateway(where, shutdown)
    assert REGISTRY.get_sample_value("parley_broker_up", {"stage": "edge"}) == 0
    async with Bus.connect(where, "edge") as bus, asyncio.timeout(HANG_S):
        running = asyncio.create_task(gateway.run(bus))
        while REGISTRY.get_sample_value("parley_broker_up", {"stage": "edge"}) != 1:
            await asyncio.sleep(0.02)
        assert {
            "parley_queue_age_seconds",
            "parley_ready_workers",
            "parley_stream_lag",
            "parley_broker_keys",
        } < exported()
        shutdown.request()
        await running
    assert exported() == {"parley_broker_up"}
    assert REGISTRY.get_sample_value("parley_broker_up", {"stage": "edge"}) == 0


async def test_jobs_of_a_stage_without_workers_count_as_lag(where: Settings) -> None:
    async with Bus.connect(where, "edge") as bus:
        for name in range(12):
            bus.channel("asr", f"{name}").publish(TranscriptFinal(f"{name}", 1, 0, "hello", ReplyOptions()))
        async with asyncio.timeout(HANG_S):
            while (jobs := await jobs_of(bus, "llm")).length < 12:
                await asyncio.sleep(0.02)
        assert (jobs.length, jobs.lag) == (12, 12)


async def jobs_of(bus: Bus, stage: str) -> StreamStatus:
    return next(stream for stream in (await broker_status(bus)).streams if stream.name == f"jobs:{stage}")
