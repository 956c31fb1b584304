"""One run: a system with slow scripted engines, talkers, and a seeded sequence of kills."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chaos.talker import Talker, Tally
from benchmarks.chaos.turn import STATES, usual_s
from benchmarks.figures import summary
from benchmarks.pipeline.clip import quiet_frames, speech_frames
from shared.settings import STAGES
from tests.support.engines import SLICE, SLICES
from tests.support.system import SCRIPTED, System, running_system
from tests.support.waiting import until

ENGINES = {
    **SCRIPTED,
    "PARLEY_SCRIPTED_ASR_MS": "150",
    "PARLEY_LLM_ENGINE": "tests.support.engines:SlowModel",
    "PARLEY_TTS_ENGINE": "tests.support.engines:SlowVoice",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
SENTENCES = 3
"""Sentences of SlowModel's reply."""
WARM_UP_S = 8.0
"""Turns without a kill: what is usual."""
PAUSE_S = (2.0, 4.0)
"""Shortest and longest time between two kills."""
LOOK_S = 5.0
RECOVERY_S = 60.0
"""A process that is not replaced by then stays lost, and ends the run."""
DRAIN_S = 45.0
"""Time for the talkers to finish their turns."""

KINDS = (*STAGES, "edge")


@dataclass(frozen=True, slots=True)
class Kill:
    at_s: float
    kind: str


OnProgress = Callable[[str], None]


async def run(seed: int, kills: int, sessions: int, workers: int, on_progress: OnProgress) -> dict[str, Any]:
    """Kill workers under talking sessions. Returns the figures, as JSON types.

    Raises:
        StartFailed: the system did not start.
        TimeoutError: a process was not replaced, or the talkers did not end.
    """
    chance, tally = random.Random(seed), Tally()
    speech, quiet = await speech_frames(), quiet_frames()
    began_s = time.monotonic()
    async with running_system(ENGINES, workers=workers, standby=True) as system, asyncio.TaskGroup() as tasks:
        talkers = [
            Talker(tally, speech, quiet, random.Random(f"{seed} {number}"), (SENTENCES, SLICE * SLICES))
            for number in range(sessions)
        ]
        talking = [
            tasks.create_task(talker.run(system.stream_url, number * WARM_UP_S / 2 / sessions))
            for number, talker in enumerate(talkers)
        ]
        await asyncio.sleep(WARM_UP_S)
        done = await _kill(system, kills, chance, on_progress)
        for talker in talkers:
            talker.stop()
        on_progress("the last turns end")
        _, late = await asyncio.wait(talking, timeout=DRAIN_S)
        for task in late:
            tally.counts["turns unanswered"] += 1
            task.cancel()
    return _figures(tally, done) | {"workers": workers, "seconds": round(time.monotonic() - began_s)}


async def _kill(system: System, kills: int, chance: random.Random, on_progress: OnProgress) -> list[Kill]:
    """Kill one process after the other, each when the system is whole again."""
    done = []
    for number in range(kills):
        await asyncio.sleep(chance.uniform(*PAUSE_S))
        kind = KINDS[number % len(KINDS)]
        copies = sorted(name for name in system.pids if name.partition("-")[0] == kind)
        name = chance.choice(copies)
        pid = system.pids[name]
        done.append(Kill(time.monotonic(), kind))
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(RECOVERY_S):
            await until(partial(_is_replaced, system, name, pid))
            await _until_whole(system)
            await until(lambda: system.standby.pid)
        on_progress(f"kill {number + 1} of {kills}")
    return done


async def _until_whole(system: System) -> None:
    async with httpx.AsyncClient(base_url=system.url, timeout=LOOK_S, trust_env=False) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get("/health")).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.1)


def _is_replaced(system: System, name: str, pid: int) -> bool:
    return system.pids.get(name, pid) != pid


def _figures(tally: Tally, kills: list[Kill]) -> dict[str, Any]:
    times_s = [kill.at_s for kill in kills]
    usual = usual_s(tally.turns, times_s[0])
    delays: dict[tuple[str, str], list[float]] = {}
    struck: dict[tuple[str, str], int] = {}
    for kill, next_s in zip(kills, [*times_s[1:], float("inf")], strict=True):
        for turn in tally.turns:
            state = turn.state(kill.at_s)
            if state is None:
                continue
            key = (kill.kind, state)
            struck[key] = struck.get(key, 0) + 1
            if delay_s := turn.delay_s(kill.at_s, next_s, usual):
                delays.setdefault(key, []).append(1000 * delay_s)
    lasting = [delay for found in delays.values() for delay in found]
    return {
        "kills": len(kills),
        "turns": len(tally.turns),
        "completed": sum(turn.completed for turn in tally.turns),
        "interrupted": sum(turn.interrupting_s > 0 for turn in tally.turns),
        "first_audio_ms": 1000 * usual,
        **{name.replace(" ", "_"): tally.counts[name] for name in LOSSES},
        "other_counts": {name: count for name, count in tally.counts.items() if name not in LOSSES},
        "errors": dict(tally.errors),
        "losses": tally.losses,
        "recovery_ms": summary(lasting),
        "recovery": [
            {
                "kind": kind,
                "state": state,
                "turns": struck[kind, state],
                "delayed": summary(delays.get((kind, state), [])),
            }
            for kind in KINDS
            for state in STATES
            if (kind, state) in struck
        ],
    }


LOSSES = ("sessions lost", "samples lost", "samples doubled", "turns unanswered")
"""What must be 0."""
