"""Hung is dead: a process that is stopped (SIGSTOP) is killed and replaced, and the conversation goes on."""

import asyncio
import os
import signal

import httpx
import pytest

from tests.support.caller import calling
from tests.support.system import SCRIPTED, System, running_system
from tests.support.waiting import HANG_S, until

HUNG_S = 3.0


@pytest.mark.parametrize("name", ["edge", "broker"])
async def test_a_process_that_stands_still_is_replaced(name: str) -> None:
    async with running_system(SCRIPTED, hung_s=HUNG_S) as system:
        others = {one: pid for one, pid in system.pids.items() if one != name}
        async with calling(system.url) as caller:
            await caller.send("text_input", text="one")
            await caller.until("reply_done", status="completed")
        await asyncio.sleep(1.5)  # everyone has been seen to answer
        hung = system.pids[name]
        os.kill(hung, signal.SIGSTOP)
        await until(lambda: system.pids.get(name, hung) != hung)
        assert f"{name} has not answered for {HUNG_S:g} s; killing it" in system.journal.events
        await healthy(system)
        async with calling(system.url) as caller:
            await caller.send("text_input", text="two")
            await caller.until("reply_done", status="completed")
        assert {one: system.pids[one] for one in others} == others


async def test_the_turn_of_a_worker_that_stands_still_is_answered_by_its_successor() -> None:
    async with running_system(SCRIPTED, hung_s=HUNG_S) as system, calling(system.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("reply_done", turn=1, status="completed")
        await asyncio.sleep(1.5)
        os.kill(system.pids["tts"], signal.SIGSTOP)
        await caller.send("text_input", text="two")
        await caller.until("reply_done", turn=2, status="completed")
        assert f"tts has not answered for {HUNG_S:g} s; killing it" in system.journal.events


async def healthy(system: System) -> None:
    async with asyncio.timeout(HANG_S), httpx.AsyncClient(base_url=system.url, trust_env=False) as client:
        while True:
            try:
                if (await client.get("/health")).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
