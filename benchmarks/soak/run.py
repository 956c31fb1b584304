"""A soak: a whole system with scripted engines, callers who come and go, and a sample every few seconds."""

import asyncio
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.result import circumstances, result_path, write_result
from benchmarks.soak.callers import keep_calling
from benchmarks.soak.samples import Sample, Verdict, judge, take_sample
from benchmarks.tables import open_console, print_rows
from deploy.client.performance import spoken
from tests.support.system import SCRIPTED, System, running_system

TEXT = "Hello there, how are you today?"
SAMPLES = 90
"""Samples of a run, at most; and at least `SHORTEST_S` apart."""
SHORTEST_S = 0.5
VERDICTS = {None: "too short", False: "flat", True: "GREW"}


def run_soak(minutes: float, callers: int, seed: int, out: Path) -> int:
    """Soak, print the figures and write the result. Returns the exit code."""
    seconds, counts = 60 * minutes, Counter[str]()
    samples, broker, events = asyncio.run(_soak(seconds, callers, seed, counts))
    verdicts = judge(samples, seconds)
    where = circumstances()
    result = {
        **where, "broker": broker, "seconds": seconds, "callers": callers, "seed": seed, "counts": counts, "events": events,
        "figures": [verdict._asdict() for verdict in verdicts],
    }  # fmt: skip
    path = result_path(out, "soak", where)
    write_result(result, path)
    console = open_console(sys.stdout)
    print_rows(f"{seconds:g} s, {callers} callers, {broker}", [_row(verdict) for verdict in verdicts], console)
    console.print(", ".join(f"{number} {name}" for name, number in sorted(counts.items())), markup=False)
    for event in events:
        console.print(event, markup=False)
    console.print(f"written to {path}", markup=False)
    bad = any(name == "unanswered" or name.startswith("lost") for name in counts)
    return int(bad or bool(events) or not counts["turns"] or any(verdict.grew for verdict in verdicts))


def _row(verdict: Verdict) -> dict[str, str]:
    return {
        "figure": verdict.name,
        "second third": f"{verdict.early:.1f}",
        "last third": f"{verdict.late:.1f}",
        "verdict": VERDICTS[verdict.grew],
    }


async def _soak(seconds: float, callers: int, seed: int, counts: Counter[str]) -> tuple[list[Sample], str, list[str]]:
    """Returns the samples, the broker, and what happened to the system's processes."""
    voice, samples = (await spoken([TEXT], speed=1.0))[TEXT], list[Sample]()
    speech = (32_767 * voice).clip(-32_768, 32_767).astype(np.int16).tobytes()
    async with running_system(SCRIPTED) as system, asyncio.TaskGroup() as tasks:
        calling = [
            tasks.create_task(keep_calling(system.url, speech, random.Random(seed * 1_000 + number), counts))
            for number in range(callers)
        ]
        await _sample(system, seconds, samples)
        for caller in calling:
            caller.cancel()
        return samples, system.broker, list(system.journal.events)


async def _sample(system: System, seconds: float, samples: list[Sample]) -> None:
    end_s, period_s = time.monotonic() + seconds, max(SHORTEST_S, seconds / SAMPLES)
    while time.monotonic() < end_s:
        await asyncio.sleep(period_s)
        samples.append(await take_sample(system.broker_url, system.pids))
