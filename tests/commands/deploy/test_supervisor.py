"""The supervisor, with real processes that each run a few lines of Python."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil
import pytest

from deploy.local.process import describe_exit, start
from deploy.local.supervised import FAILED_AFTER, Policy, Service, ServiceSpec
from deploy.local.supervisor import StartFailed, Supervisor
from tests.support.program_output import ended
from tests.support.waiting import HANG_S

QUICK = Policy(first_delay_s=0.01, longest_delay_s=0.05, grace_s=20, settle_s=0.0, probe_s=0.01, watch_s=0.01)
READY = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY


def python(name: str, code: str, *, tier: int = 1, needed: bool = True, quiet: bool = False) -> ServiceSpec:
    return ServiceSpec(name, (sys.executable, "-I", "-S", "-u", "-c", code), {}, tier, needed, quiet)


class Notes:
    """A reporter that records all messages, and wakes a test that waits for one."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def say(self, text: str) -> None:
        self.said.append(text)
        self._changed.set()

    def output(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")
        self._changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()


def supervise(specs: Sequence[ServiceSpec], policy: Policy = QUICK) -> tuple[Supervisor, Notes]:
    """Make a supervisor whose services are ready after they print `ready`."""
    notes = Notes()

    async def probe() -> frozenset[str]:
        return frozenset(one.spec.name for one in supervisor.services if "ready" in one.lines)

    supervisor = Supervisor(specs, probe=probe, reporter=notes, policy=policy)
    return supervisor, notes


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[None]:
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await supervisor.up.wait()
        yield
        supervisor.stop()


def pid_of(service: Service) -> int:
    assert service.process is not None
    return service.process.pid


async def test_a_killed_service_is_restarted_and_that_is_reported() -> None:
    supervisor, notes = supervise([python("ear", READY)])
    async with running(supervisor):
        (ear,) = supervisor.services
        first = pid_of(ear)
        os.kill(first, signal.SIGKILL)
        await notes.until(lambda: "ear is ready again" in notes.said)
        assert pid_of(ear) != first
        assert ear.restarts == 1
    assert notes.said == ["ear was killed by SIGKILL; restarting now", "ear is ready again"]
    assert ear.state == "stopped"


async def test_the_exit_code_is_reported_and_the_delay_doubles_up_to_its_limit() -> None:
    supervisor, notes = supervise([python("ear", "raise SystemExit(7)")])
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: len(notes.said) == FAILED_AFTER)
        assert supervisor.services[0].state == "failed"
        supervisor.stop()
    delays = ("now", "in 0.01 s", "in 0.02 s", "in 0.04 s", "in 0.05 s")
    assert notes.said == [f"ear exited with code 7; restarting {delay}" for delay in delays]


async def test_a_healthy_life_restarts_the_back_off() -> None:
    policy = Policy(first_delay_s=0.01, longest_delay_s=5, healthy_s=0.0, probe_s=0.01)
    supervisor, notes = supervise([python("ear", "raise SystemExit(7)")], policy)
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: len(notes.said) == 3)
        supervisor.stop()
    assert {*notes.said} == {"ear exited with code 7; restarting now"}


async def test_tiers_start_from_the_lowest_and_stop_from_the_highest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import signal, sys, time\n"
        "def note(text): open({log!r}, 'a').write(text + '\\n')\n"
        "def stop(*_): note('{name} stops'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "note('{name} starts'); print('ready', flush=True); time.sleep(60)"
    )
    names = ("edge", "stage", "broker")
    specs = [
        python(name, code.format(log=str(log), name=name), tier=2 - position) for position, name in enumerate(names)
    ]
    supervisor, _ = supervise(specs)
    async with running(supervisor):
        pass
    starts = ["broker starts", "stage starts", "edge starts"]
    assert log.read_text().splitlines() == [*starts, "edge stops", "stage stops", "broker stops"]


async def test_a_tier_waits_only_for_needed_services_of_the_tier_below() -> None:
    needed, slow = python("broker", READY, tier=0), python("stage", "import time; time.sleep(60)", tier=0, needed=False)
    supervisor, notes = supervise([python("edge", READY), needed, slow])
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: notes.lines == ["broker: ready", "edge: ready"])
        supervisor.stop()


async def test_a_service_that_does_not_stop_is_killed() -> None:
    policy = Policy(grace_s=0.05, probe_s=0.01, watch_s=0.01)
    supervisor, notes = supervise([python("ear", STUBBORN)], policy)
    async with running(supervisor):
        process = psutil.Process(pid_of(supervisor.services[0]))
    assert notes.said == ["ear did not stop within 0.05 s; killing it"]
    assert not process.is_running()


async def test_a_second_stop_kills_at_once() -> None:
    policy = Policy(grace_s=3600, probe_s=0.01, watch_s=0.01)
    supervisor, notes = supervise([python("ear", STUBBORN), python("mouth", STUBBORN, tier=2)], policy)
    async with running(supervisor):
        supervisor.stop()
    assert notes.said == []


async def test_wrong_settings_end_the_start_at_once_and_are_reported_once() -> None:
    code = "import sys; print('PARLEY_X=1: is wrong', file=sys.stderr); sys.exit(2)"
    supervisor, notes = supervise([python("ear", READY), python("mouth", code)])
    async with asyncio.timeout(HANG_S):
        with pytest.raises(StartFailed, match=r"^mouth cannot start: see its message above$"):
            await supervisor.run()
    assert notes.lines.count("mouth: PARLEY_X=1: is wrong") == 1
    assert notes.said == []
    assert not any(service.alive for service in supervisor.services)


async def test_exit_code_2_after_the_start_is_an_ordinary_death(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"import os, sys\nif os.path.exists({str(mark)!r}): sys.exit(2)\n{READY}"
    supervisor, notes = supervise([python("ear", code)])
    async with running(supervisor):
        mark.touch()
        os.kill(pid_of(supervisor.services[0]), signal.SIGKILL)
        await notes.until(lambda: len(notes.said) > FAILED_AFTER + 2)
        mark.unlink()
        await notes.until(lambda: "ear is ready again" in notes.said)


async def test_a_missing_program_is_reported_and_stop_does_not_wait_for_its_restart() -> None:
    supervisor, notes = supervise([ServiceSpec("ear", ("/no/such/program",), {})], Policy(first_delay_s=3600))
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: len(notes.said) == 2)
        supervisor.stop()
    assert notes.lines == 2 * ["ear: /no/such/program: No such file or directory"]
    assert notes.said == ["ear did not start; restarting now", "ear did not start; restarting in 5 s"]


async def test_the_readiness_of_a_dead_predecessor_does_not_count() -> None:
    """The probe reads the readiness from the edge, which notices the death of a worker only after some time."""
    notes = Notes()

    async def probe() -> frozenset[str]:
        return frozenset({"ear"})

    policy = Policy(first_delay_s=0.01, settle_s=3600, probe_s=0.01, watch_s=0.01)
    supervisor = Supervisor([python("ear", READY)], probe=probe, reporter=notes, policy=policy)
    async with running(supervisor):
        await notes.until(lambda: notes.lines == ["ear: ready"])
        os.kill(pid_of(supervisor.services[0]), signal.SIGKILL)
        await notes.until(lambda: notes.lines.count("ear: ready") == 2)
        assert supervisor.services[0].state == "restarting"


async def test_the_output_of_a_quiet_service_is_shown_only_if_it_dies() -> None:
    loud, quiet = "print('ready', flush=True); input()", "print('last words'); raise SystemExit(1)"
    supervisor, notes = supervise([python("ear", loud, quiet=True), python("mouth", quiet, quiet=True)])
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: "mouth: last words" in notes.lines)
        supervisor.stop()
    supervisor, notes = supervise([python("ear", READY, quiet=True)])
    async with running(supervisor):
        pass
    assert notes.lines == []


async def test_a_child_runs_in_its_own_session() -> None:
    supervisor, _ = supervise([python("ear", READY)])
    async with running(supervisor):
        pid = pid_of(supervisor.services[0])
        assert os.getsid(pid) == pid


async def test_long_lines_come_in_pieces_and_invalid_utf8_is_replaced() -> None:
    code = "import sys; w = sys.stdout.buffer.write; w(b'x' * 200_000 + b'\\n\\xff\\r\\nend')"
    lines: list[str] = []
    process = await start((sys.executable, "-I", "-S", "-c", code), {})
    async with asyncio.timeout(HANG_S):
        await process.wait(lines.append)
    *pieces, foreign, last = lines
    assert "".join(pieces) == "x" * 200_000
    assert (foreign, last) == ("\ufffd", "end")


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process that is not its child")
async def test_descendants_end_with_their_service() -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    lines: list[str] = []
    process = await start((sys.executable, "-I", "-S", "-u", "-c", code), {})
    async with asyncio.timeout(HANG_S):
        await process.wait(lines.append)
    assert process.exit_code == 0
    assert ended(int(lines[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child when its parent dies")
async def test_no_child_outlives_a_killed_supervisor() -> None:
    code = (
        "import asyncio, sys\n"
        "from deploy.local.supervised import ServiceSpec\n"
        "from deploy.local.supervisor import Supervisor\n"
        "class Reporter:\n"
        "    def say(self, text): print(text, flush=True)\n"
        "    def output(self, name, line): print(line, flush=True)\n"
        f"argv = (sys.executable, '-I', '-S', '-u', '-c', {'import os; print(os.getpid()); ' + STUBBORN!r})\n"
        "async def probe(): return frozenset()\n"
        "specs = [ServiceSpec(name, argv, {}) for name in 'ab']\n"
        "asyncio.run(Supervisor(specs, probe=probe, reporter=Reporter()).run())\n"
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert supervisor.stdout is not None
    children: list[int] = []
    async with asyncio.timeout(HANG_S):
        while len(children) < 2:
            line = await supervisor.stdout.readline()
            if line.strip().isdigit():
                children.append(int(line))
    supervisor.kill()
    await supervisor.wait()
    assert all(ended(child) for child in children)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with code 0"), (-15, "was killed by SIGTERM"), (-63, "was killed by"), (None, "did not start")],
)
def test_an_exit_code_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code).startswith(words)
