"""The supervisor, on real processes that do what their few lines of Python say."""

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil
import pytest

from deploy.local.process import describe_exit, start
from deploy.local.supervisor import HOPELESS, Policy, Service, ServiceSpec, StartFailed, Supervisor
from tests.support.waiting import HANG_S

QUICK = Policy(first_delay_s=0.01, longest_delay_s=0.05, grace_s=20, settle_s=0.0, probe_s=0.01, watch_s=0.01)
READY = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY


def python(name: str, code: str, *, tier: int = 1, needed: bool = True, quiet: bool = False) -> ServiceSpec:
    return ServiceSpec(name, (sys.executable, "-I", "-S", "-u", "-c", code), {}, tier, needed, quiet)


class Notes:
    """A reporter that keeps what it is told, and wakes who waits for it."""

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
    """Its services are ready when they have said so."""
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


def ended(pid: int) -> bool:
    """Within ten seconds. Whether somebody has taken note of it (the machine's init: after seconds) does not matter."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 10)[0])
    finally:
        os.close(handle)


def pid_of(service: Service) -> int:
    assert service.process is not None
    return service.process.pid


async def test_a_service_that_is_killed_comes_back_and_that_is_said() -> None:
    supervisor, notes = supervise([python("ear", READY)])
    async with running(supervisor):
        (ear,) = supervisor.services
        first = pid_of(ear)
        os.kill(first, signal.SIGKILL)
        await notes.until(lambda: "ear is ready again" in notes.said)
        assert pid_of(ear) != first
        assert ear.restarts == 1
    assert notes.said == ["ear was killed by SIGKILL; starting it again in 0.01 s", "ear is ready again"]
    assert ear.state == "stopped"


async def test_an_exit_code_is_told_and_the_delay_doubles_to_its_bound() -> None:
    supervisor, notes = supervise([python("ear", "raise SystemExit(7)")])
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: len(notes.said) == HOPELESS)
        assert supervisor.services[0].state == "failed"
        supervisor.stop()
    said = "ear ended with exit code 7; starting it again in {} s"
    assert notes.said == [said.format(delay) for delay in ("0.01", "0.02", "0.04", "0.05", "0.05")]


async def test_a_healthy_life_makes_the_next_death_the_first_one() -> None:
    policy = Policy(first_delay_s=0.01, longest_delay_s=5, healthy_s=0.0, probe_s=0.01)
    supervisor, notes = supervise([python("ear", "raise SystemExit(7)")], policy)
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: len(notes.said) == 3)
        supervisor.stop()
    assert {text.rpartition(" in ")[2] for text in notes.said} == {"0.01 s"}


async def test_tiers_start_from_below_and_stop_from_above(tmp_path: Path) -> None:
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


async def test_a_tier_waits_only_for_what_is_needed_below_it() -> None:
    needed, slow = python("broker", READY, tier=0), python("stage", "import time; time.sleep(60)", tier=0, needed=False)
    supervisor, notes = supervise([python("edge", READY), needed, slow])
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: notes.lines == ["broker: ready", "edge: ready"])
        supervisor.stop()


async def test_who_does_not_stop_is_killed() -> None:
    policy = Policy(grace_s=0.05, probe_s=0.01, watch_s=0.01)
    supervisor, notes = supervise([python("ear", STUBBORN)], policy)
    async with running(supervisor):
        process = psutil.Process(pid_of(supervisor.services[0]))
    assert notes.said == ["ear does not stop; killing it"]
    assert not process.is_running()


async def test_stopped_twice_is_killed_at_once() -> None:
    policy = Policy(grace_s=3600, probe_s=0.01, watch_s=0.01)
    supervisor, notes = supervise([python("ear", STUBBORN), python("mouth", STUBBORN, tier=2)], policy)
    async with running(supervisor):
        supervisor.stop()
    assert notes.said == []


async def test_wrong_settings_end_the_start_with_what_the_service_said() -> None:
    code = "import sys; print('PARLEY_X=1: is wrong', file=sys.stderr); sys.exit(2)"
    supervisor, notes = supervise([python("ear", READY), python("mouth", code)])
    async with asyncio.timeout(HANG_S):
        with pytest.raises(StartFailed, match="mouth cannot start:\nPARLEY_X=1: is wrong"):
            await supervisor.run()
    assert len(notes.said) == HOPELESS - 1
    assert not any(service.alive for service in supervisor.services)


async def test_exit_code_2_of_a_system_that_was_up_is_a_death_like_others(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"import os, sys\nif os.path.exists({str(mark)!r}): sys.exit(2)\n{READY}"
    supervisor, notes = supervise([python("ear", code)])
    async with running(supervisor):
        mark.touch()
        os.kill(pid_of(supervisor.services[0]), signal.SIGKILL)
        await notes.until(lambda: len(notes.said) > HOPELESS + 2)
        mark.unlink()
        await notes.until(lambda: "ear is ready again" in notes.said)


async def test_a_program_that_does_not_exist_is_said_and_stopping_does_not_wait() -> None:
    supervisor, notes = supervise([ServiceSpec("ear", ("/no/such/program",), {})], Policy(first_delay_s=3600))
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await notes.until(lambda: bool(notes.said))
        supervisor.stop()
    assert notes.lines == ["ear: /no/such/program: No such file or directory"]
    assert notes.said == ["ear did not start; starting it again in 5 s"]


async def test_the_predecessors_readiness_is_not_taken_for_the_new_ones() -> None:
    """What is ready is learned from elsewhere, where a dead worker is missed only after a while."""
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


async def test_a_quiet_service_is_heard_when_it_dies() -> None:
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


async def test_a_child_has_a_session_of_its_own() -> None:
    supervisor, _ = supervise([python("ear", READY)])
    async with running(supervisor):
        pid = pid_of(supervisor.services[0])
        assert os.getsid(pid) == pid


async def test_long_lines_come_in_pieces_and_foreign_bytes_do_no_harm() -> None:
    code = "import sys; w = sys.stdout.buffer.write; w(b'x' * 200_000 + b'\\n\\xff\\r\\nend')"
    heard: list[str] = []
    process = await start((sys.executable, "-I", "-S", "-c", code), {})
    async with asyncio.timeout(HANG_S):
        await process.wait(heard.append)
    *pieces, foreign, last = heard
    assert "".join(pieces) == "x" * 200_000
    assert (foreign, last) == ("\ufffd", "end")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the end of a process that is no child of ours")
async def test_what_a_service_started_ends_with_it() -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    heard: list[str] = []
    process = await start((sys.executable, "-I", "-S", "-u", "-c", code), {})
    async with asyncio.timeout(HANG_S):
        await process.wait(heard.append)
    assert process.exit_code == 0
    assert ended(int(heard[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
async def test_no_child_outlives_a_killed_supervisor() -> None:
    code = (
        "import asyncio, sys\n"
        "from deploy.local.supervisor import ServiceSpec, Supervisor\n"
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
    [(0, "ended with exit code 0"), (-15, "was killed by SIGTERM"), (-63, "was killed by"), (None, "did not start")],
)
def test_an_end_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code).startswith(words)
