"""Writes noise into the streams of a system in use: flipped bytes, good entries in wrong places, and anything at all.

Other people's conversations must not notice, no process may die, and no worker may hold what nobody asked for.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from shared.protocol.frames import FRAMES, Frame, codec
from shared.protocol.streams import JOBS, Keys, StreamKind
from tests.support.caller import calling
from tests.support.golden import sample
from tests.support.system import SCRIPTED, System, running_system

BYSTANDERS = 3
BURST, PAUSE_S = 20, 0.02
SETTLE_S = 60.0
"""After this time without noise, no job is left but those of the bystanders' sessions."""
LOOK_S = 0.25

ENV = {**SCRIPTED, "PARLEY_SCRIPTED_TTS_SECONDS": "0.3", "PYTHONPATH": str(Path.cwd())}


@dataclass(slots=True)
class Report:
    entries: int = 0
    turns: int = 0
    """Turns of bystanders that were answered."""
    faults: list[str] = field(default_factory=list)


async def strike(seed: int, *, seconds: float, entries: int | None = None) -> Report:
    """Write noise for a time, or a number of entries, while bystanders talk; then look at what is left."""
    chance, report = random.Random(seed), Report()
    async with running_system(ENV) as system, redis.Redis.from_url(system.broker_url) as client:
        before, over = dict(system.pids), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(BYSTANDERS):
                tasks.create_task(_talk(system, number, over, report))
            async with calling(system.url) as victim:
                session = victim.of("ready")[0]["session_id"]
                async with asyncio.timeout(seconds + SETTLE_S):
                    await _write(client, chance, session, seconds, entries, report)
            over.set()
        await _settled(client, report)
        ended = [event for event in system.journal.events if "exited" in event or "killed" in event]
        if before != dict(system.pids) or ended:
            report.faults.append(f"processes died: {ended}")
        report.faults += [line for line in system.journal.lines if "session failed" in line][:1]
    return report


async def _write(
    client: "redis.Redis[Any]", chance: random.Random, victim: str, seconds: float, entries: int | None, report: Report
) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    while report.entries < entries if entries is not None else loop.time() < end_s:
        for _ in range(BURST):
            await client.xadd(_place(chance, victim), _noise(chance, victim), maxlen=10_000)
            report.entries += 1
        await asyncio.sleep(PAUSE_S)


def _place(chance: random.Random, victim: str) -> bytes:
    """A jobs stream, or a stream of the victim's session, or of a session that does not exist."""
    keys = Keys()
    if chance.random() < 0.5:
        return keys.jobs(chance.choice(list(JOBS)))
    kind = chance.choice([StreamKind.IN, StreamKind.SPEECH, StreamKind.OUT])
    return keys.stream(kind, chance.choice([victim, "f" * 32]))


def _noise(chance: random.Random, victim: str) -> dict[bytes, bytes]:
    """An entry: its field and value."""
    good = codec.entry([codec.encode(frame) for frame in _frames(chance, victim)])
    match chance.randrange(5):
        case 0:
            return {b"f": good}
        case 1:
            flipped = bytearray(good)
            for _ in range(chance.randint(1, 8)):
                flipped[chance.randrange(len(flipped))] = chance.randrange(256)
            return {b"f": bytes(flipped)}
        case 2:
            return {b"f": good[: chance.randrange(len(good))]}
        case 3:
            return {b"f": chance.randbytes(chance.randint(0, 200)), b"n": chance.randbytes(4)}
        case _:
            return {chance.randbytes(3): chance.randbytes(20)}


def _frames(chance: random.Random, victim: str) -> Sequence[Frame]:
    """Frames that are whole, of any kind, about the victim's session or one that does not exist."""
    made = [sample(chance.choice(FRAMES)) for _ in range(chance.choice([1, 1, 1, 2]))]
    session = chance.choice([victim, "f" * 32, ""])
    return [replace(one, session=session) if hasattr(one, "session") else one for one in made]


async def _talk(system: System, number: int, over: asyncio.Event, report: Report) -> None:
    """Someone else's conversation: every turn is answered, and nothing else is heard."""
    async with calling(system.url) as caller:
        turn = 0
        while not over.is_set():
            turn += 1
            await caller.send("text_input", text=f"bystander {number}, turn {turn}")
            await caller.until("reply_done", turn=turn)
            report.turns += 1
        statuses = {event["status"] for event in caller.of("reply_done")}
        if statuses != {"completed"} or caller.of("error"):
            report.faults.append(f"a bystander noticed: {statuses} {caller.of('error')[:3]}")


async def _settled(client: "redis.Redis[Any]", report: Report) -> None:
    """All sessions are over: no stage holds a job, and none waits."""
    held: dict[str, int] = {}
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                held = {}
                for stage in JOBS:
                    groups = await client.xinfo_groups(Keys().jobs(stage))
                    held[stage] = sum(group["pending"] + (group["lag"] or 0) for group in groups)
                if not any(held.values()):
                    return
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        report.faults.append(f"jobs are left {SETTLE_S:g} s later: {held}")
