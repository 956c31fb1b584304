"""A worker stands still (SIGSTOP) while it speaks, and a second one is free: who speaks on, and that no sample is doubled."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
import redis.asyncio as redis

from shared.protocol.frames import VoiceChunk, codec
from tests.chaos.test_death import SENTENCES, SLOW, pid_of
from tests.conftest import system
from tests.support.caller import Caller, calling
from tests.support.engines import SLICE, SLICES
from tests.support.ramp import assert_exact
from tests.support.system import System
from tests.support.waiting import HANG_S

LEASE_MS = 3000


async def speaker(running: System) -> int:
    """The process that holds a sentence."""
    async with redis.Redis.from_url(running.broker_url, decode_responses=True) as client:
        async with asyncio.timeout(HANG_S):
            while not (held := await client.xpending_range("parley:{0}:jobs:tts", "tts", "-", "+", 1)):
                await asyncio.sleep(0.005)
    return pid_of(held[0]["consumer"])


async def fences(running: System, caller: Caller) -> list[tuple[int, int]]:
    """Sentence and fence of each slice of the reply in the session's log, in its order."""
    session = caller.of("ready")[0]["session_id"]
    async with redis.Redis.from_url(running.broker_url) as client:
        entries = await client.xrange(f"parley:{{0}}:out:{session}")
    return [
        (frame.sentence, int(fields.get(b"n", 1)))
        for _, fields in entries
        for frame in codec.decode_entry(fields[b"f"])
        if isinstance(frame, VoiceChunk)
    ]


@pytest.fixture(scope="module")
def two_of_each() -> Iterator[System]:
    """Two workers of each stage."""
    with system({**SLOW, "PARLEY_LEASE_MS": str(LEASE_MS)}, workers=2) as running:
        yield running


@pytest.mark.parametrize(("stall_s", "taken_over"), [(0.3 * LEASE_MS / 1000, False), (None, True)])
async def test_a_worker_that_stands_still_loses_its_sentence_only_after_its_lease(
    two_of_each: System, stall_s: float | None, taken_over: bool
) -> None:
    """The longer stall ends after the other worker has begun: the first one wakes up as a zombie, and publishes nothing."""
    async with calling(two_of_each.url) as caller:
        await asyncio.sleep(LEASE_MS / 1000)  # from now on the workers may take over silent work
        await caller.send("text_input", text="hello")
        await caller.until("audio")
        pid = await speaker(two_of_each)
        os.kill(pid, signal.SIGSTOP)
        try:
            if stall_s is not None:
                await asyncio.sleep(stall_s)
            else:
                async with asyncio.timeout(HANG_S):
                    while all(fence == 1 for _, fence in await fences(two_of_each, caller)):
                        await asyncio.sleep(0.02)
        finally:
            os.kill(pid, signal.SIGCONT)
        await caller.until("reply_done", status="completed")
        assert_exact(bytes(caller.audio), list(range(SLICE * SLICES)) * SENTENCES)
        found = await fences(two_of_each, caller)
        assert any(fence > 1 for _, fence in found) == taken_over
        for sentence in range(SENTENCES):
            own = [fence for one, fence in found if one == sentence]
            assert own == sorted(own)
