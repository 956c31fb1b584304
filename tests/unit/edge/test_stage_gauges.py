"""What an edge says of the broker and the stages: true as long as it knows, and nothing once it does not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.edge.gateway.gateway import Edge
from shared.bus.bus import Bus
from shared.bus.status import broker_status
from shared.protocol.frames import TranscriptFinal
from shared.protocol.session import ReplyOptions
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.broker import embedded_broker


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings


def seen() -> set[str]:
    """The gauges of the broker and the stages that have a value."""
    prefixes = ("parley_broker_", "parley_stream_", "parley_queue_age", "parley_ready_workers")
    families = [family for family in REGISTRY.collect() if family.name.startswith(prefixes) and family.type == "gauge"]
    return {sample.name for family in families for sample in family.samples}


async def test_what_was_seen_of_a_broker_goes_with_it(where: Settings) -> None:
    shutdown = Shutdown(1)
    edge = Edge(where, shutdown)
    assert REGISTRY.get_sample_value("parley_broker_up", {"stage": "edge"}) == 0
    async with Bus.connect(where, "edge") as bus, asyncio.timeout(5):
        running = asyncio.create_task(edge.run(bus))
        while REGISTRY.get_sample_value("parley_broker_up", {"stage": "edge"}) != 1:
            await asyncio.sleep(0.02)
        assert {"parley_queue_age_seconds", "parley_ready_workers", "parley_stream_lag", "parley_broker_keys"} < seen()
        shutdown.request()
        await running
    assert seen() == {"parley_broker_up"}
    assert REGISTRY.get_sample_value("parley_broker_up", {"stage": "edge"}) == 0


async def test_work_of_a_stage_without_workers_lags(where: Settings) -> None:
    async with Bus.connect(where, "edge") as bus:
        for name in range(12):
            bus.channel("asr", f"{name}").publish(TranscriptFinal(f"{name}", 1, 0, "hello", ReplyOptions()))
        await bus.call("PING")
        await asyncio.sleep(0.05)
        (jobs,) = [stream for stream in (await broker_status(bus)).streams if stream.name == "jobs:llm"]
        assert (jobs.length, jobs.lag) == (12, 12)
