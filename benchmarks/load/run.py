"""One run: each burden beside a caller, then the ramp; the tables and the result's file."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load.burdens import BURDENS
from benchmarks.load.neighbour import neighbour
from benchmarks.load.ramp import ENGINES, Ramp, climb
from benchmarks.result import RESULTS, USAGE_WRONG, circumstances, result_path, write_result
from benchmarks.tables import open_console, print_rows
from tests.support.system import SCRIPTED, System, running_system

QUICK = {**SCRIPTED, "PARLEY_SCRIPTED_LLM_MS": "200", "PARLEY_SCRIPTED_TTS_MS": "150"}
SETTLE_S = 1.0
RAMP = "ramp"


@dataclass(frozen=True)
class Options:
    seconds: float = 15.0
    callers: int = 20
    only: tuple[str, ...] = ()
    """Names of burdens; empty: all, and the ramp."""
    out: Path = RESULTS


def run_load(options: Options) -> int:
    """Measure, print and write the result. Returns the exit code."""
    known = (*BURDENS, RAMP)
    if unknown := [name for name in options.only if name not in known]:
        print(f"no such burden: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return USAGE_WRONG
    where = circumstances()
    try:
        rows, ramp = asyncio.run(_measure(options))
    except ExceptionGroup as lost:
        print(f"the other caller lost its session or was not answered: {lost.exceptions}", file=sys.stderr)
        return 1
    console = open_console(sys.stdout)
    if rows:
        print_rows(
            "What another caller notices, in ms, and the edge's memory, in MB", [_shown(row) for row in rows], console
        )
    if ramp is not None:
        print_rows("Callers up to refusal and back", [_shown(ramp.figures())], console)
        for reason, number in ramp.refused.items():
            console.print(f"{number} refused: {reason}")
    result = {**where, "burdens": rows, "ramp": None if ramp is None else ramp.figures()}
    path = result_path(options.out, "load", where)
    write_result(result, path)
    console.print(f"\n{path}")
    return 0


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in row.items()}


async def _measure(options: Options) -> tuple[list[dict[str, Any]], Ramp | None]:
    names = [name for name in BURDENS if not options.only or name in options.only]
    rows = []
    if names:
        async with running_system(QUICK) as system:
            rows = [await _bear(system, name, options.seconds) for name in names]
    if options.only and RAMP not in options.only:
        return rows, None
    async with running_system(ENGINES) as system:
        return rows, await climb(system.url, options.callers)


async def _bear(system: System, name: str, seconds: float) -> dict[str, Any]:
    """One burden, and what the caller beside it waited for."""
    edge = psutil.Process(system.pids["edge"])
    async with neighbour(system.url) as waits:
        await asyncio.sleep(SETTLE_S)
        waits.clear()
        before = edge.memory_info().rss
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.load.burdens", name, system.url, str(seconds),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        peak = before
        reading = asyncio.create_task(process.communicate())
        while not reading.done():
            await asyncio.wait([reading], timeout=0.2)
            peak = max(peak, edge.memory_info().rss)
        output, _ = reading.result()
    return {
        "burden": name,
        **waits.figures(),
        "memory": f"{before / 1e6:.0f} → {peak / 1e6:.0f}",
        "result": output.decode().strip(),
    }
