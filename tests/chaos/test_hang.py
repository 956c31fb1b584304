"""Hung is dead: a process that is stopped (SIGSTOP) is killed and replaced, and the conversation goes on."""

import asyncio
import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from deploy.local.hang import HangWatch
from tests.conftest import system
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S, until

HUNG_S = 6.0
"""Longer than most stalls of a busy machine: what only stalls is not killed."""


@pytest.fixture(scope="module")
def watched_system() -> Iterator[System]:
    """Its processes are stopped and replaced; a test leaves it as whole as it was."""
    with system(SCRIPTED, hung_s=HUNG_S) as running:
        yield running


async def seen_to_answer(running: System) -> None:
    """From now on the silence of any process counts."""
    watch = running.watch
    assert isinstance(watch, HangWatch)
    await until(lambda: all(map(watch.has_answered, running.pids)))


@pytest.mark.parametrize("name", ["edge", "broker"])
async def test_a_process_that_stands_still_is_replaced(watched_system: System, name: str) -> None:
    others = {one: pid for one, pid in watched_system.pids.items() if one != name}
    async with calling(watched_system.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("reply_done", status="completed")
    await seen_to_answer(watched_system)
    hung = watched_system.pids[name]
    os.kill(hung, signal.SIGSTOP)
    await until(lambda: watched_system.pids.get(name, hung) != hung)
    assert f"{name} has not answered for {HUNG_S:g} s; killing it" in watched_system.journal.events
    await healthy(watched_system)
    async with calling(watched_system.url) as caller:
        await caller.send("text_input", text="two")
        await caller.until("reply_done", status="completed")
    assert {one: watched_system.pids[one] for one in others} == others


async def test_the_turn_of_a_worker_that_stands_still_is_answered_by_its_successor(watched_system: System) -> None:
    await healthy(watched_system)
    async with calling(watched_system.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("reply_done", turn=1, status="completed")
        await seen_to_answer(watched_system)
        os.kill(watched_system.pids["tts"], signal.SIGSTOP)
        await caller.send("text_input", text="two")
        await caller.until("reply_done", turn=2, status="completed")
        assert f"tts has not answered for {HUNG_S:g} s; killing it" in watched_system.journal.events


async def healthy(system: System) -> None:
    async with asyncio.timeout(HANG_S), httpx.AsyncClient(base_url=system.url, trust_env=False) as client:
        while True:
            try:
                if (await client.get("/health")).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
