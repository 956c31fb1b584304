"""One run: a whole system with scripted engines, N callers in real time, and the clocks of all processes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from benchmarks.pipeline.figures import CALLERS, Run
from benchmarks.result import RESULTS
from tests.support.system import SCRIPTED, System, running_system

ENDPOINT_MS = 500
SLACK_S = 60
"""A run that takes this much longer than its phases counts as hung."""
LINE_BYTES = 64 << 20
"""The callers' result is one line."""

OnPhase = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    sessions: tuple[int, ...] = (1, 10, 50, 100)
    seconds: float = 32.0
    """Length of the phase of plain turns."""
    barge: float = 12.0
    """Length of the phase of interruptions, in seconds."""
    repeat: int = 2
    speculations: int = 3
    out: Path = RESULTS
    compare: Path | None = None
    """File of the result to compare with."""
    against: Path | None = None
    """Folder of the other checkout."""


class RunFailed(RuntimeError):
    """A run failed. The message says why."""


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """User and system time of each process since it began."""
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: spent.user + spent.system for name, spent in times.items()}


def machine_seconds() -> dict[str, float]:
    """CPU time of all processes of the machine, and the time that its host withheld."""
    spent = psutil.cpu_times()
    return {"busy": spent.user + spent.nice + spent.system, "steal": getattr(spent, "steal", 0.0)}


def resident_bytes(pids: dict[str, int]) -> dict[str, int]:
    return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}


async def measure(run: Run, options: Options, on_phase: OnPhase) -> None:
    """Fill in `run`, on a system of its own. `on_phase` is given the name of each phase.

    Raises:
        RunFailed: the callers gave up, a process of the system died, or the run hung.
    """
    on_phase("starting the system")
    async with running_system(SCRIPTED) as system:
        run.broker = system.broker
        pids = system.pids
        run.idle_bytes = resident_bytes(pids)
        try:
            async with (
                asyncio.timeout(options.seconds + options.barge + SLACK_S),
                _callers(system, run, options) as callers,
            ):
                await _follow(run, callers, pids, on_phase)
        except (psutil.Error, TimeoutError, RunFailed) as error:
            reasons = [str(error) or "a run took too long", *system.journal.events, *system.journal.lines]
            raise RunFailed("\n".join(reasons)) from None
        run.errors |= dict.fromkeys(system.journal.events, 1)


@asynccontextmanager
async def _callers(system: System, run: Run, options: Options) -> AsyncIterator[asyncio.subprocess.Process]:
    given = {"sessions": run.sessions, "seconds": options.seconds, "barge": options.barge}
    given |= {"endpoint-ms": ENDPOINT_MS, "speculations": options.speculations}
    arguments = [f"--{name}={value}" for name, value in given.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.pipeline.callers", system.stream_url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _follow(run: Run, callers: asyncio.subprocess.Process, pids: dict[str, int], on_phase: OnPhase) -> None:
    """Read the CPU clocks of all processes whenever the callers report a new phase."""
    output = callers.stdout or asyncio.StreamReader()  # never None: it was started with a pipe
    watched = pids | {CALLERS: callers.pid}
    began_s: dict[str, float] = {}
    async for line in output:
        message = orjson.loads(line)
        phase = message.pop("phase")
        on_phase(phase)
        if phase == "turns":
            began_s, run.window_s = cpu_seconds(watched) | machine_seconds(), -time.monotonic()
        elif phase == "barge-in":
            run.window_s += time.monotonic()
            run.cpu_s = {name: spent - began_s[name] for name, spent in cpu_seconds(watched).items()}
            run.machine_s = {name: spent - began_s[name] for name, spent in machine_seconds().items()}
            run.busy_bytes = resident_bytes(pids)
        elif phase == "done":
            for name, value in message.items():
                setattr(run, name, value)
            return
        elif phase == "failed":
            raise RunFailed(message["reason"])
    raise RunFailed("the callers ended without a result")
