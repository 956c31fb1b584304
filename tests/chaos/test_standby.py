"""A process in readiness becomes the service that died, and is itself replaced."""

import asyncio
import os
import signal
from collections.abc import Callable

from deploy.local.process import start
from deploy.local.standby import Standby, service_argv
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System, running_system
from tests.support.waiting import until


async def successor(system: System, name: str) -> int:
    """Kill a service. Returns the process that runs it then."""
    dead = system.pids[name]
    os.kill(dead, signal.SIGKILL)
    await until(lambda: system.pids.get(name, dead) != dead)
    return system.pids[name]


async def test_the_standby_becomes_the_tts_worker_and_the_edge_that_died(
    speech_pcm: Callable[[str, int], bytes],
) -> None:
    async with running_system(SCRIPTED, standby=True) as system:
        for name in ("tts", "edge"):
            await until(lambda: system.standby.pid)
            waiting = system.standby.pid
            assert await successor(system, name) == waiting
        async with calling(system.url) as caller:
            await caller.speak(speech_pcm("hello there", 16_000), silence_s=1.0)
            await caller.until("reply_done", turn=1, status="completed")


async def test_a_dead_standby_is_replaced_and_a_service_starts_without_one() -> None:
    standby = Standby(os.environ)
    up = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(standby.run(up))
        up.set()
        await until(lambda: standby.pid)
        first = standby.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: standby.pid not in (None, first))
        second = standby.pid
        with standby.withheld():
            assert standby.pid is None
            settings = {**os.environ, "PARLEY_NO_SUCH": "1"}
            process = await start(service_argv("tts"), settings, (), standby.launch)
            assert process.pid != second
            lines: list[str] = []
            await process.wait(lines.append)
        assert process.exit_code == 2
        assert any("PARLEY_NO_SUCH" in line for line in lines)
        await until(lambda: standby.pid not in (None, first, second))
        keeping.cancel()


async def test_it_is_used_only_by_a_service_with_its_environment() -> None:
    standby = Standby(os.environ)
    up = asyncio.Event()
    up.set()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(standby.run(up))
        await until(lambda: standby.pid)
        waiting = standby.pid
        lines: list[str] = []
        other = {**os.environ, "SOMETHING_ELSE": "1", "PARLEY_NO_SUCH": "1"}
        process = await start(service_argv("vad"), other, (), standby.launch)
        await process.wait(lines.append)
        assert process.pid != waiting
        same = {**os.environ, "PARLEY_NO_SUCH": "1"}
        process = await start(service_argv("vad"), same, (), standby.launch)
        assert process.pid == waiting
        lines.clear()
        await process.wait(lines.append)
        assert any("PARLEY_NO_SUCH" in line for line in lines)
        keeping.cancel()
