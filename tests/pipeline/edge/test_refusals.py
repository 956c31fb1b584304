"""Refused sessions: each reason with its code for the metrics and its message for the client."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.edge.gateway.gateway import Gateway
from shared.bus.bus import Bus
from shared.bus.leases import Leases, Wait, announce_wait
from shared.observability import metrics
from shared.protocol.frames import TranscriptFinal
from shared.protocol.session import ReplyOptions
from shared.settings import STAGES, Settings
from shared.worker.lifecycle import Shutdown
from tests.support.broker import embedded_broker

CLOCK_ERROR_S = 0.1
"""The broker's clock is known no better."""


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings.model_copy(update={"max_sessions": 1, "queue_age_limit_ms": 20})


def code_of(gateway: Gateway) -> str:
    refusal = gateway.refusal()
    return "" if refusal is None else refusal.code


async def test_each_reason_has_its_code(where: Settings) -> None:
    shutdown = Shutdown(1)
    gateway = Gateway(where, shutdown)
    assert code_of(gateway) == "broker"
    async with Bus.connect(where, "edge") as bus:
        gateway.bus = bus
        assert code_of(gateway) == "broker"  # its status has not been read yet
        groups = {stage: Leases(bus, stage, 60_000) for stage in STAGES}
        for stage, leases in groups.items():
            await gateway.admission.refresh(bus)
            refusal = gateway.refusal()
            assert refusal == ("no_worker", f"no {stage} worker is ready")
            await leases.open()
            await leases.ready({"engine": f"{stage}-engine"}, {"slots": 3, "in_hand": 1})
        await gateway.admission.refresh(bus)
        assert gateway.refusal() is None
        assert gateway.admission.engine("llm") == "llm-engine"
        assert list(gateway.admission.statuses()["tts"].loads.values()) == [{"slots": 3, "in_hand": 1}]

        bus.channel("asr", "somebody").publish(TranscriptFinal("somebody", 1, 0, "hello", ReplyOptions()))
        began_s = time.monotonic()
        while gateway.refusal() is None:
            await asyncio.sleep(0.02)
            await gateway.admission.refresh(bus)
        assert code_of(gateway) == "behind"
        assert 0.01 < metrics.queue_age.labels("llm")._value.get() < time.monotonic() - began_s + CLOCK_ERROR_S
        (lease,) = await groups["llm"].take(1)
        await gateway.admission.refresh(bus)
        assert gateway.refusal() is None

        gateway.connections.sessions.add("somebody")  # type: ignore[arg-type]
        assert code_of(gateway) == "full"
        shutdown.request()
        assert code_of(gateway) == "stopping"
        assert lease.fence == 1


async def test_what_a_worker_waits_for_is_shown_until_it_waits_no_longer(where: Settings) -> None:
    async with Bus.connect(where, "edge") as bus:
        gateway = Gateway(where, Shutdown(1))
        gateway.bus = bus
        await announce_wait(bus, "vad", Wait("http://here/v1", "connection refused", 12))
        await gateway.admission.refresh(bus)
        assert gateway.refusal() == (
            "no_worker",
            "no vad worker is ready: it waits for http://here/v1 (connection refused)",
        )
        shown = gateway.admission.stages()
        assert shown["vad"]["waiting"] == {"awaited": "http://here/v1", "reason": "connection refused", "seconds": 12}
        assert shown["llm"]["waiting"] is None
        await announce_wait(bus, "vad", None)
        await gateway.admission.refresh(bus)
        assert gateway.refusal() == ("no_worker", "no vad worker is ready")
        assert gateway.admission.stages()["vad"]["waiting"] is None


async def test_the_load_of_a_stopped_worker_is_forgotten(where: Settings) -> None:
    async with Bus.connect(where, "edge") as bus:
        admission = Gateway(where, Shutdown(1)).admission
        leases = Leases(bus, "llm", 60_000)
        await leases.open()
        await leases.ready({"engine": "one"}, {"slots": 1})
        await admission.refresh(bus)
        assert admission.statuses()["llm"].loads
        await leases.ready({"engine": "one"}, ready=False)
        await admission.refresh(bus)
        assert admission.statuses()["llm"].loads == {}
        assert admission.engine("llm") == ""


async def test_taking_work_records_its_queueing_delay(where: Settings) -> None:
    async with Bus.connect(where, "llm") as bus:
        leases = Leases(bus, "llm", 60_000)
        await leases.open()
        waited = metrics.queue_wait.labels("llm")
        count = sum(bucket.get() for bucket in waited._buckets)
        total = waited._sum.get()
        began_s = time.monotonic()
        bus.channel("asr", "somebody").publish(TranscriptFinal("somebody", 1, 0, "hello", ReplyOptions()))
        await asyncio.sleep(0.08)
        while not await leases.take(1):
            await asyncio.sleep(0.02)
        assert sum(bucket.get() for bucket in waited._buckets) == count + 1
        assert 0 < waited._sum.get() - total < time.monotonic() - began_s + CLOCK_ERROR_S
