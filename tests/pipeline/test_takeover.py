"""Who takes over whose jobs, and when: those of the dead at once, those of the silent after their lease, on both brokers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.bus import leases as leases_module
from shared.bus.bus import Bus
from shared.bus.leases import Lease, Leases, stage_status
from shared.protocol.frames import ReplySentence, VoiceChunk, codec
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.work import Work
from tests.conftest import need
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S

NEVER_MS = 60_000
"""A lease that does not run out during a test."""
LEASE_MS = 1000
SWEEP_S = 0.05


@pytest_asyncio.fixture(params=["redis-server", "bundled valkey"])
async def where(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settings]:
    path = str(Path(need("redis-server")).parent) if request.param == "redis-server" else ""
    async with embedded_broker(tmp_path, path) as settings:
        yield settings


def sentence(turn: int) -> ReplySentence:
    return ReplySentence("s", turn, 0, 0, "Hello.", "", 1.0, "en")


async def die_with_jobs(where: Settings, turns: int) -> list[Lease]:
    """Take this many jobs with a worker whose connections then end."""
    async with Bus.connect(where, "tts") as bus:
        leases = Leases(bus, "tts", NEVER_MS)
        await leases.open()
        for turn in range(turns):
            bus.channel("llm", "s").publish(sentence(turn))
        await leases.ready({"engine": "test"})
        return await leases.take(turns)


async def consumers(bus: Bus) -> list[str]:
    rows = await bus.call("XINFO", "CONSUMERS", bus.keys.jobs("tts"), "tts")
    return [row[1].decode() for row in rows]


async def test_the_jobs_of_a_dead_worker_are_taken_at_once_and_its_consumer_is_removed_with_the_last(
    where: Settings,
) -> None:
    dead = await die_with_jobs(where, 5)
    async with Bus.connect(where, "tts") as bus:
        leases = Leases(bus, "tts", NEVER_MS)
        await leases.open()
        taken = await leases.sweep(3)
        assert [(one.id, one.fence, one.frame) for one in taken] == [(one.id, 2, one.frame) for one in dead[:3]]
        assert len(await consumers(bus)) == 2
        assert await leases.sweep(0) == []
        assert [one.id for one in await leases.sweep(3)] == [one.id for one in dead[3:]]
        assert await consumers(bus) == [bus.consumer]


async def test_a_worker_that_died_is_not_ready_any_more(where: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "READY_TTL_MS", 600_000)  # it does not run out
    async with Bus.connect(where, "edge") as edge:
        async with Bus.connect(where, "tts") as bus:
            leases = Leases(bus, "tts", NEVER_MS)
            await leases.open()
            await leases.ready({"engine": "test"}, {"slots": 1})
            status = await stage_status(edge, "tts")
            assert [worker["consumer"] for worker in status.workers] == [*status.loads] == [bus.consumer]
        async with asyncio.timeout(HANG_S):
            while (status := await stage_status(edge, "tts")).workers or status.loads:
                await asyncio.sleep(SWEEP_S)


async def test_fifteen_generations_of_a_worker_leave_one_consumer(where: Settings) -> None:
    for _ in range(15):
        await die_with_jobs(where, 1)
    async with Bus.connect(where, "tts") as bus:
        leases = Leases(bus, "tts", NEVER_MS)
        await leases.open()
        assert len(await leases.sweep(16)) == 15
        assert await consumers(bus) == [bus.consumer]


async def test_a_worker_that_lives_keeps_its_jobs_and_so_does_one_of_the_first_release(where: Settings) -> None:
    """The first release's consumers have no mark in their names: nobody can see whether they live."""
    async with Bus.connect(where, "tts") as living, Bus.connect(where, "tts") as bus:
        held = Leases(living, "tts", NEVER_MS)
        await held.open()
        living.channel("llm", "s").publish(sentence(1))
        living.channel("llm", "s").publish(sentence(2))
        await held.take(1)
        await living.call(
            b"XREADGROUP", b"GROUP", b"tts", b"tts:host:1:0abc", b"STREAMS", living.keys.jobs("tts"), b">"
        )
        leases = Leases(bus, "tts", NEVER_MS)
        await leases.open()
        assert await leases.sweep(4) == []
        assert {"tts:host:1:0abc", living.consumer} <= {*await consumers(bus)}


async def test_a_stall_of_everybody_takes_nobodys_lease_away(where: Settings) -> None:
    """After it, whoever sweeps first does not know yet who lives: it waits for a lease's length."""
    async with Bus.connect(where, "tts") as living, Bus.connect(where, "tts") as bus:
        held, leases = Leases(living, "tts", LEASE_MS), Leases(bus, "tts", LEASE_MS)
        await held.open()
        await leases.open()
        living.channel("llm", "s").publish(sentence(1))
        (lease,) = await held.take(1)
        assert await leases.sweep(4) == []
        await asyncio.sleep(1.2 * LEASE_MS / 1000)  # neither of them runs
        assert await leases.sweep(4) == []
        assert await held.renew([lease]) == set()
        async with asyncio.timeout(HANG_S):
            while not (taken := await leases.sweep(4)):  # now only the other one does not run
                await asyncio.sleep(SWEEP_S)
        assert [(one.id, one.fence) for one in taken] == [(lease.id, 2)]
        assert await held.renew([lease]) == {lease.id}


async def test_what_a_worker_publishes_after_its_job_was_taken_over_reaches_no_stream(where: Settings) -> None:
    async with Bus.connect(where, "tts") as zombie, Bus.connect(where, "tts") as bus:
        held, leases = Leases(zombie, "tts", LEASE_MS), Leases(bus, "tts", LEASE_MS)
        await held.open()
        await leases.open()
        out = zombie.keys.stream(StreamKind.OUT, "s")
        zombie.channel("llm", "s").publish(sentence(1))
        (lease,) = await held.take(1)
        await zombie.call(b"XADD", out, b"*", b"f", codec.entry([]))
        work = Work(zombie, held, "tts", lease)
        work.publish(VoiceChunk(1, 0, 0, 0, 16_000, b"\0\0", ()))
        await zombie.call(b"PING")
        assert await bus.call(b"XLEN", out) == 2
        async with asyncio.timeout(HANG_S):
            while not (taken := await leases.sweep(4)):
                await asyncio.sleep(SWEEP_S)
        work.publish(VoiceChunk(1, 0, 0, 1, 16_000, b"\1\0", ()))
        Work(bus, leases, "tts", taken[0]).publish(VoiceChunk(1, 0, 0, 0, 16_000, b"\0\0", ()))
        await zombie.call(b"PING")
        await bus.call(b"PING")
        assert [fence for fence, frames in await bus.log(StreamKind.OUT, "s") if frames] == [1, 2]
