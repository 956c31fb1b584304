"""What the pipeline itself costs: `python -m benchmarks.pipeline`.

Starts a whole system with scripted engines, has N callers talk to it in real time, and tells what the
system added to each reply, how fast it fell silent when interrupted, and what it took of the machine.
"""

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
from rich.console import Console

from benchmarks.figures import CALLERS, Run, digest
from benchmarks.machine import RESULTS, circumstances, result_path
from benchmarks.measure import summary
from benchmarks.report import draw, open_console, print_report
from benchmarks.system import SCRIPTED, System, running_system
from deploy.broker import BrokerError
from deploy.supervisor import StartFailed

ENDPOINT_MS = 500
SLACK_S = 60
"""How much longer than its phases a run may take before it counts as hung."""
LINE_BYTES = 64 << 20
"""The callers' result is one line."""

Tell = Callable[[str], None]


class RunFailed(RuntimeError):
    """A run gave no figures; the message says why."""


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """User and system time of each process since it began."""
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: spent.user + spent.system for name, spent in times.items()}


def machine_seconds() -> dict[str, float]:
    """CPU time of all processes of the machine, and what its host withheld."""
    spent = psutil.cpu_times()
    return {"busy": spent.user + spent.nice + spent.system, "steal": getattr(spent, "steal", 0.0)}


def resident_bytes(pids: dict[str, int]) -> dict[str, int]:
    """Memory that each process holds."""
    return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}


async def measure(run: Run, options: argparse.Namespace, tell: Tell, env: Mapping[str, str] = SCRIPTED) -> None:
    """Fill in `run`, on a system of its own with this environment.

    Raises:
        RunFailed: the callers gave up, a process of the system died, or the run hung.
    """
    tell("starting the system")
    async with running_system(env) as system:
        run.broker = system.broker
        pids = system.pids
        run.idle_bytes = resident_bytes(pids)
        try:
            async with (
                asyncio.timeout(options.seconds + options.barge + SLACK_S),
                _callers(system, run, options) as callers,
            ):
                await _follow(run, callers, pids, options, tell)
        except (psutil.Error, TimeoutError, RunFailed) as error:
            reasons = [str(error) or "a run took too long", *system.journal.events, *system.journal.lines]
            raise RunFailed("\n".join(reasons)) from None
        finally:
            if options.log:
                print(*system.journal.lines, sep="\n", file=sys.stderr)
        run.errors |= dict.fromkeys(system.journal.events, 1)


@asynccontextmanager
async def _callers(system: System, run: Run, options: argparse.Namespace) -> AsyncIterator[asyncio.subprocess.Process]:
    given = {"sessions": run.sessions, "seconds": options.seconds, "barge": options.barge}
    given |= {"grain-ms": options.grain_ms, "endpoint-ms": ENDPOINT_MS, "speculations": options.speculations}
    arguments = [f"--{name}={value}" for name, value in given.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.caller", system.stream_url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _follow(
    run: Run, callers: asyncio.subprocess.Process, pids: dict[str, int], options: argparse.Namespace, tell: Tell
) -> None:
    """Read the clocks of all processes when the callers say that a phase begins."""
    output = callers.stdout or asyncio.StreamReader()  # it has one: that is how it was started
    watched = pids | {CALLERS: callers.pid}
    began_s: dict[str, float] = {}
    async with _profiler(pids, options) as start_profile:
        async for line in output:
            message = orjson.loads(line)
            phase = message.pop("phase")
            tell(phase)
            if phase == "turns":
                began_s, run.window_s = cpu_seconds(watched) | machine_seconds(), -time.monotonic()
                await start_profile()
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


@asynccontextmanager
async def _profiler(pids: dict[str, int], options: argparse.Namespace) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Draws where the time of one service goes during the plain turns, where that is asked for."""
    processes: list[asyncio.subprocess.Process] = []

    async def start() -> None:
        if options.profile:
            command = ["py-spy", "record", "--pid", str(pids[options.profile]), "--duration", f"{options.seconds:.0f}"]
            target = ["--output", str(options.out / f"profile-{options.profile}.svg")]
            processes.append(await asyncio.create_subprocess_exec(*command, *target, stdout=sys.stderr))

    try:
        yield start
    finally:
        for process in processes:
            await process.wait()


async def measure_all(options: argparse.Namespace, console: Console) -> list[Run]:
    """All runs, the numbers of sessions interleaved, so that a slow hour of the machine hits all of them."""
    runs = [Run(sessions, repeat) for repeat in range(options.repeat) for sessions in options.sessions]
    with console.status("") as status:
        for number, run in enumerate(runs, 1):
            label = f"run {number} of {len(runs)}: {run.sessions} sessions"
            await measure(run, options, lambda phase, label=label: status.update(f"{label}, {phase}"))  # type: ignore[misc]
            console.print(f"{label}: {_in_short(run)}", markup=False)
    return runs


def _in_short(run: Run) -> str:
    """The heart of a run, to be read while others are still to come."""
    overhead, barge, cpu = summary(run.overhead_ms), summary(run.barge_ms), run.cpu_percent
    return ", ".join(
        [
            f"overhead p50 {overhead['p50']:.1f}, p99 {overhead['p99']:.1f} ms" if overhead["n"] else "no reply",
            f"barge-in {barge['p50']:.0f} ms" if barge["n"] else "no interrupt",
            f"{sum(cpu.values()) - cpu[CALLERS]:.2f} % of a core per session",
            *run.errors,
        ]
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--sessions", default="1,10,50,100", help="numbers of callers, with commas")
    parser.add_argument("--seconds", type=float, default=32, help="of plain turns in each run; a turn takes 4")
    parser.add_argument("--barge", type=float, default=12, help="seconds of interruptions in each run")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each number")
    parser.add_argument("--grain-ms", type=float, default=1.0, help="finest spacing of callers within 20 ms")
    parser.add_argument("--speculations", type=int, default=3, help="replies prepared before a turn is over")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--profile", metavar="SERVICE", help="draw where a service's time goes (needs py-spy)")
    parser.add_argument("--log", action="store_true", help="show what the system wrote")
    options = parser.parse_args()
    try:
        options.sessions = [int(number) for number in options.sessions.split(",")]
    except ValueError:
        parser.error(f"--sessions {options.sessions!r}: numbers with commas between them, such as 1,10,50")
    if options.profile and not shutil.which("py-spy"):
        parser.error("--profile needs the program py-spy: pip install py-spy")
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def main() -> int:
    options = parse()
    console = open_console(sys.stderr)
    try:
        runs = asyncio.run(measure_all(options, console))
    except (RunFailed, StartFailed, BrokerError) as error:
        console.print(f"no result: {error}", markup=False)
        return 1
    result: dict[str, Any] = circumstances() | {
        "broker": runs[0].broker,
        "endpoint_ms": ENDPOINT_MS,
        "grain_ms": options.grain_ms,
        "seconds": options.seconds,
        "settings": {name: os.environ[name] for name in os.environ if name.startswith("PARLEY_") and "URL" not in name},
        "figures": digest(runs),
        "runs": [run.figures() for run in runs],
    }
    path = result_path(options.out, "pipeline", result)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    draw(result, path.with_suffix(".png"))
    if options.json:
        print(orjson.dumps(result).decode())
    else:
        print_report(result, open_console(sys.stdout))
        print(f"\n{path}\n{path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
