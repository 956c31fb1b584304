"""Hung is dead: a process that is stopped (SIGSTOP) is killed and replaced, and the conversation goes on."""

import asyncio
import os
import signal

import pytest

from tests.support.caller import calling
from tests.support.edges import until_healthy
from tests.support.system import SCRIPTED, running_system
from tests.support.waiting import until

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
        await until_healthy(system.url)
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
