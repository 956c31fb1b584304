"""The worker's slots: however a job ends, its slot is freed and its lease ends."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from shared.bus.leases import Lease
from shared.observability import metrics
from shared.protocol.frames import Frame, ReplyDone, SpeechStarted, TranscriptFinal
from shared.protocol.session import ReplyOptions
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.work import ABANDONED_S, Work
from shared.worker.worker import OLD_S, Worker
from tests.support import virtual_time
from tests.support.golden import sample
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases, SimulatedStage

STALE, NEWEST = 1, 2


class Slow:
    """A stage whose jobs take a second."""

    name, slots, long_lived, interruptible = "llm", 4, False, True

    def __init__(self) -> None:
        self.done: list[int] = []

    async def load(self) -> None: ...

    async def close(self) -> None: ...

    def info(self) -> dict[str, Any]:
        return {"engine": "slow"}

    async def work(self, work: Work) -> Sequence[Frame]:
        await asyncio.sleep(1)
        self.done.append(work.turn)
        return [ReplyDone(work.turn, work.revision, "", 0)]


def turn(number: int) -> TranscriptFinal:
    return TranscriptFinal("s", number, 0, "Hello.", ReplyOptions())


def stop_after_job(bus: SimulatedBus) -> None:
    bus.add(StreamKind.JOBS_LLM, "s", 1, turn(STALE))
    bus.stop("s", NEWEST, 0)


def stop_before_job(bus: SimulatedBus) -> None:
    bus.stop("s", NEWEST, 0)
    bus.add(StreamKind.JOBS_LLM, "s", 1, turn(STALE))


def stop_while_it_works(bus: SimulatedBus) -> None:
    bus.add(StreamKind.JOBS_LLM, "s", 1, turn(STALE))
    bus.loop.call_later(0.5, lambda: bus.stop("s", NEWEST, 0))


def burst(bus: SimulatedBus) -> None:
    """A client types faster than the agent replies: each text makes the previous turn stale."""
    for number in range(-48, NEWEST):
        bus.stop("s", number, 0)
        bus.add(StreamKind.JOBS_LLM, "s", 1, turn(number))
    bus.stop("s", NEWEST, 0)


@pytest.mark.parametrize("arrival", [stop_after_job, stop_before_job, stop_while_it_works, burst])
def test_a_stop_frees_the_slot_whenever_it_arrives(arrival: Callable[[SimulatedBus], None]) -> None:
    """Messages of the same time are delivered in one event-loop iteration, as from one read of the socket."""

    async def main() -> None:
        bus, stage = SimulatedBus(random.Random(0), (0.0, 0.0)), Slow()
        async with asyncio.TaskGroup() as tasks:
            workers = SimulatedStage(stage, Settings(redis_url=None), bus, tasks, kill_chance=0, lease_s=1)
            bus.on_job = lambda _, stream, entry_id, frame: workers.take(stream, entry_id, frame)
            arrival(bus)
            bus.add(StreamKind.JOBS_LLM, "s", 1, turn(NEWEST))
            await asyncio.sleep(5)
            assert stage.done == [NEWEST]
            assert workers.in_hand == 0
            assert workers.leases == {}

    virtual_time.run(main())


def test_a_lease_that_another_worker_took_over_is_counted() -> None:
    async def main() -> None:
        bus, stage = SimulatedBus(random.Random(0), (0.0, 0.0)), Slow()
        lost = metrics.leases_lost.labels("llm")
        before = lost._value.get()
        async with asyncio.TaskGroup() as tasks:
            workers = SimulatedStage(stage, Settings(redis_url=None), bus, tasks, kill_chance=0, lease_s=1)
            bus.on_job = lambda _, stream, entry_id, frame: workers.take(stream, entry_id, frame)
            bus.add(StreamKind.JOBS_LLM, "s", 1, turn(NEWEST))
            await asyncio.sleep(0.5)
            for entry in workers.leases:
                workers.leases[entry] += 1  # another worker has it now
            await asyncio.sleep(2)
            assert workers.in_hand == 0
        assert lost._value.get() == before + 1

    virtual_time.run(main())


def test_old_work_of_a_session_that_is_gone_is_acknowledged_unread() -> None:
    async def main() -> None:
        bus, stage = SimulatedBus(random.Random(0), (0.0, 0.0)), Slow()
        bus.gone.add("gone")
        old_ms, fresh_ms = (bus.now_ms() - round(1000 * age_s) for age_s in (2 * OLD_S, OLD_S / 2))
        async with asyncio.TaskGroup() as tasks:
            workers = SimulatedStage(stage, Settings(redis_url=None), bus, tasks, kill_chance=0, lease_s=1)
            jobs = [("gone", old_ms, 1), ("gone", fresh_ms, 2), ("here", old_ms, 3)]
            for session, at_ms, number in jobs:
                job = TranscriptFinal(session, number, 0, "Hello.", ReplyOptions())
                workers.take(bus.keys.jobs("llm"), f"{at_ms}-{number}", job)
            await asyncio.sleep(5)
            assert sorted(stage.done) == [2, 3]
            assert workers.leases == {}

    virtual_time.run(main())


class Listening(Slow):
    """A stage whose job lasts as long as there are frames, as an utterance does."""

    name = "asr"

    async def work(self, work: Work) -> Sequence[Frame]:
        async with work.feed(StreamKind.SPEECH, "0-0") as feed, aclosing(feed):
            async for _ in feed:
                pass
        return ()


@pytest.mark.parametrize(("lives", "in_hand"), [(False, 0), (True, 1)])
def test_a_job_that_waits_for_a_session_that_is_gone_ends(
    lives: bool, in_hand: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def session_lives(bus: SimulatedBus, session: str) -> bool:
        return lives

    monkeypatch.setattr(SimulatedBus, "session_lives", session_lives)

    async def wait() -> int:
        async with asyncio.TaskGroup() as tasks:
            bus = SimulatedBus(random.Random(0), (0.0, 0.0))
            stage = SimulatedStage(Listening(), Settings(), bus, tasks, 0.0, 0.25)
            bus.on_job = lambda name, stream, entry_id, frame: stage.take(stream, entry_id, frame)
            bus.add(StreamKind.JOBS_ASR, "s", 1, sample(SpeechStarted))
            await asyncio.sleep(3 * ABANDONED_S)
            held = stage.in_hand
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        return held

    assert virtual_time.run(wait()) == in_hand


class Parking(Slow):
    """A stage with one slot, whose first job waits for something else than its engine."""

    slots = 1

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def work(self, work: Work) -> Sequence[Frame]:
        if work.turn == 1:
            with work.parked():
                await self.go_on.wait()
        self.done.append(work.turn)
        return ()


class Offered(SimulatedLeases):
    """Jobs for one worker."""

    def __init__(self, bus: SimulatedBus, turns: Sequence[int]) -> None:
        super().__init__(bus)
        self._waiting = [Lease(b"jobs", f"{number}-0", 1, turn(number)) for number in turns]
        self.fences = {lease.id: 1 for lease in self._waiting}

    async def open(self) -> None: ...

    async def ready(self, *_: Any, **__: Any) -> None: ...

    async def renew(self, leases: Sequence[Lease]) -> list[str]:
        return []

    async def sweep(self, count: int) -> list[Lease]:
        return []

    async def take(self, count: int) -> list[Lease]:
        if not self._waiting:
            await asyncio.Event().wait()
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


def test_a_job_that_is_parked_takes_no_slot() -> None:
    async def main() -> None:
        bus, stage, shutdown = SimulatedBus(random.Random(0), (0.0, 0.0)), Parking(), Shutdown(10.0)
        worker = Worker(stage, Settings(redis_url=None), shutdown, bus, Offered(bus, (1, 2, 3)))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await asyncio.sleep(1)
            assert stage.done == [2, 3]
            assert worker.load()["in_hand"] == 0
            stage.go_on.set()
            await asyncio.sleep(1)
            assert stage.done == [2, 3, 1]
            shutdown.stopping.set()

    virtual_time.run(main())
