"""The broker stands still, is full, restarts, loses its connections or is far away: live sessions go on or end with a reason.

With LONG_TESTS in the environment also what takes long.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from deploy.local.address import claim_port
from deploy.local.supervised import ServiceSpec
from tests.conftest import system
from tests.support.broker_trouble import (
    Client,
    answered,
    told_of_the_end,
    until_new_sessions_work,
    until_nothing_is_left,
)
from tests.support.caller import Caller, calling
from tests.support.slow_network import HOST, slow_network
from tests.support.system import SCRIPTED, System, running_system

Speech = Callable[[str, int], bytes]
FAST = {**SCRIPTED, "PARLEY_LEASE_MS": "600"}
STALLS_S = (3.0, 15.0) if os.environ.get("LONG_TESTS") else (3.0,)


def persistent(spec: ServiceSpec) -> ServiceSpec:
    """A broker that keeps its data when it is restarted."""
    return replace(spec, argv=(*spec.argv, "--appendonly", "yes")) if spec.name == "broker" else spec


@pytest.fixture(scope="module")
def whole_system() -> Iterator[System]:
    with system(FAST) as running:
        yield running


@asynccontextmanager
async def two_callers(server: System) -> AsyncIterator[tuple[Caller, Caller]]:
    """One has had a turn, the other has said nothing yet. Afterwards nothing is left, and every worker is the same."""
    pids = {name: pid for name, pid in server.pids.items() if name != "broker"}
    async with calling(server.url) as talking, calling(server.url) as idle:
        await answered(talking, 1)
        yield talking, idle
        await until_new_sessions_work(server.url)
    await until_nothing_is_left(server.broker_url)
    assert {name: pid for name, pid in server.pids.items() if name != "broker"} == pids


@pytest.mark.parametrize("stall_s", STALLS_S)
async def test_a_broker_that_stands_still(whole_system: System, stall_s: float) -> None:
    async with two_callers(whole_system) as (talking, idle):
        broker = whole_system.pids["broker"]
        os.kill(broker, signal.SIGSTOP)
        await asyncio.sleep(stall_s)
        if stall_s > 10:  # it was replaced
            await told_of_the_end(talking)
            await told_of_the_end(idle)
        else:
            os.kill(broker, signal.SIGCONT)
            await answered(talking, 2)
            await answered(idle, 1)


async def test_a_full_broker_is_said_and_sessions_go_on_when_there_is_room(
    whole_system: System, speech_pcm: Speech
) -> None:
    words = speech_pcm("hello there", 16_000)
    async with two_callers(whole_system) as (talking, idle), Client.from_url(whole_system.broker_url) as client:
        await client.config_set("maxmemory", 1)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(idle.speak(words, silence_s=5.0))
                for caller in (talking, idle):
                    error = await caller.until("error")
                    assert error["code"] == "broker_full"
        finally:
            await client.config_set("maxmemory", 0)
        await until_new_sessions_work(whole_system.url)
        await answered(talking, 2)
        assert talking.closed is None
        assert idle.closed is None


async def test_killed_connections_end_sessions_and_free_their_slots(whole_system: System) -> None:
    async with two_callers(whole_system) as callers, Client.from_url(whole_system.broker_url) as client:
        for kind in ("normal", "pubsub"):
            await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        for caller in callers:
            await told_of_the_end(caller)


async def test_a_broker_that_restarts_with_its_data() -> None:
    async with running_system(FAST, persistent) as server, two_callers(server) as callers:
        os.kill(server.pids["broker"], signal.SIGKILL)
        for caller in callers:
            await told_of_the_end(caller)


async def test_a_broker_far_away(speech_pcm: Speech) -> None:
    port = claim_port(HOST, 0)
    async with slow_network(port, 0.05) as slow_port:

        def far(spec: ServiceSpec) -> ServiceSpec:
            if spec.name == "broker":
                return replace(spec, argv=(*spec.argv, "--bind", HOST, "--port", str(port)))
            return replace(spec, env={**spec.env, "PARLEY_REDIS_URL": f"redis://{HOST}:{slow_port}"})

        async with running_system(SCRIPTED, far) as server, calling(server.url) as caller:
            await caller.speak(speech_pcm("hello there", 16_000), silence_s=1.0)
            await caller.until("reply_done", turn=1, status="completed")
            await answered(caller, 2)
