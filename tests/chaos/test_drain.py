"""SIGTERM drains an edge: what is said is said to its end, nothing new begins, and a second signal ends it at once."""

import asyncio
import signal
import struct
from collections.abc import Iterator

import pytest

from tests.chaos.test_death import SENTENCES, SLOW
from tests.conftest import system
from tests.support import phone
from tests.support.caller import Caller, calling
from tests.support.edges import running_edge
from tests.support.engines import SLICE, SLICES
from tests.support.system import System
from tests.support.waiting import HANG_S

PATIENT = {**SLOW, "PARLEY_DRAIN_MS": "60000"}


@pytest.fixture(scope="module")
def slow_system() -> Iterator[System]:
    with system(SLOW) as running:
        yield running


def assert_whole_reply(caller: Caller) -> None:
    ramp = tuple(range(SLICE * SLICES)) * SENTENCES
    assert struct.unpack(f"<{len(caller.audio) // 2}h", caller.audio) == ramp
    assert caller.of("reply_done")[0]["status"] == "completed"


async def test_a_draining_edge_ends_the_reply_refuses_new_calls_and_then_moves_its_client(slow_system: System) -> None:
    async with running_edge(slow_system, PATIENT) as edge, calling(edge.url) as caller:
        async with calling(edge.url) as silent:
            await caller.send("text_input", text="one")
            await caller.until("audio")
            edge.process.send_signal(signal.SIGTERM)
            assert (await silent.until("closed"))["code"] == 1012
        health = await edge.health()
        assert health.status_code == 503
        assert "shutting down" in health.json()["reason"]
        async with calling(edge.url, start=False) as refused:
            closed = await refused.until("closed", code=1013)
            assert "shutting down" in closed["reason"]
        assert not caller.closed
        closed = await caller.until("closed")
        assert closed["code"] == 1012
        assert_whole_reply(caller)
        async with asyncio.timeout(HANG_S):
            assert await edge.process.wait() == 0


async def test_a_second_signal_ends_a_draining_edge_at_once(slow_system: System) -> None:
    async with running_edge(slow_system, PATIENT) as edge, calling(edge.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("audio")
        edge.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANG_S):
            while (await edge.health()).status_code != 503:
                await asyncio.sleep(0.05)
        edge.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANG_S):
            await edge.process.wait()
        await caller.until("closed")
        assert not caller.of("reply_done")


async def test_a_caller_on_the_phone_hears_the_goodbye_before_the_drain_ends(slow_system: System) -> None:
    env = {**SLOW, "PARLEY_DRAIN_MS": "8000", "PARLEY_GOODBYE": "Goodbye."}
    async with running_edge(slow_system, env) as edge, phone.calling(edge.url) as caller:
        await asyncio.sleep(0.3)  # the call has begun
        edge.process.send_signal(signal.SIGTERM)
        await caller.until(lambda: caller.received >= SLICE * SLICES // 2)
