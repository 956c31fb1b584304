"""Hung is dead: a process that is stopped (SIGSTOP) is killed and replaced, and the conversation goes on."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.hang import HUNG_S as LIMIT_S
from deploy.local.hang import HangWatch
from tests.conftest import system
from tests.pipeline.test_late_endpoint import parley_up, printed
from tests.support.caller import calling
from tests.support.edges import until_healthy
from tests.support.system import SCRIPTED, System, running_system
from tests.support.waiting import HANG_S, until

HUNG_S = 6.0
"""Longer than most stalls of a busy machine: what only stalls is not killed."""
LONG = os.environ.get("LONG_TESTS")


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
    await until_healthy(watched_system.url)
    async with calling(watched_system.url) as caller:
        await caller.send("text_input", text="two")
        await caller.until("reply_done", status="completed")
    assert {one: watched_system.pids[one] for one in others} == others


async def test_the_turn_of_a_worker_that_stands_still_is_answered_by_its_successor(watched_system: System) -> None:
    await until_healthy(watched_system.url)
    async with calling(watched_system.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("reply_done", turn=1, status="completed")
        await seen_to_answer(watched_system)
        os.kill(watched_system.pids["tts"], signal.SIGSTOP)
        await caller.send("text_input", text="two")
        await caller.until("reply_done", turn=2, status="completed")
        assert f"tts has not answered for {HUNG_S:g} s; killing it" in watched_system.journal.events


@pytest.mark.parametrize("lasts", (False, True) if LONG else (False,))
async def test_a_turn_is_answered_once_although_the_voice_stands_still(lasts: bool) -> None:
    """After 3 s the same process answers. One that stands still for longer than the limit is replaced."""
    async with running_system(SCRIPTED, hung_s=LIMIT_S) as system, calling(system.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("reply_done", turn=1, status="completed")
        await seen_to_answer(system)
        voice = system.pids["tts"]
        os.kill(voice, signal.SIGSTOP)
        await caller.send("text_input", text="two")
        if lasts:
            await until(lambda: system.pids.get("tts", voice) != voice)
        else:
            await asyncio.sleep(3)
            os.kill(voice, signal.SIGCONT)
        await caller.until("reply_done", turn=2, status="completed")
        assert len(caller.of("reply_done")) == 2
        assert lasts or system.pids["tts"] == voice


if LONG:

    @pytest.mark.parametrize("name", ["tts", "edge", "broker"])
    async def test_parley_up_replaces_what_stands_still(name: str) -> None:
        """The whole command, with the limit that users have."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PARLEY_")}
        with parley_up({**environ, **SCRIPTED, "PARLEY_PORT": "0"}) as (process, output):
            page = (await printed(output, r"open http://127\.0\.0\.1:\d+")).removeprefix("open ")
            await asyncio.sleep(1.5)
            hung = service_pid(process.pid, name)
            os.kill(hung, signal.SIGSTOP)
            await printed(output, f"{name} has not answered for {LIMIT_S:g} s; killing it")
            await until(lambda: service_pid(process.pid, name) not in (0, hung))
            await until_healthy(page)
            async with calling(page) as caller:
                await caller.send("text_input", text="hello")
                await caller.until("reply_done", status="completed")
            process.send_signal(signal.SIGINT)
            await asyncio.to_thread(process.wait, HANG_S)


def service_pid(parent: int, name: str) -> int:
    """The process of this service among the children of `parley up`; 0 if it does not run."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        argv = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if name in argv or (name == "broker" and ("redis-server" in argv[0] or "valkey" in argv[0])):
            return int(child)
    return 0
