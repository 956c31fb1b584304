"""The sentences of a reply are synthesised in order, where an engine takes one at a time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from services.tts.engine import Speech
from services.tts.engines.scripted import ScriptedSynthesizer
from services.tts.stage import TtsStage
from shared.bus.leases import Lease
from shared.protocol.frames import ReplySentence
from shared.settings import Settings
from shared.worker.work import Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases

AHEAD_S = 0.2


class Gated(ScriptedSynthesizer):
    """Notes which sentences have begun, and ends none before `go_on`."""

    def __init__(self, *, in_order: bool) -> None:
        super().__init__(Settings())
        self.in_order = in_order
        self.begun: list[str] = []
        self.speech = b"\0\0"
        self.go_on = {name: asyncio.Event() for name in ("a0", "a1", "b0")}

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncIterator[Speech]:
        self.begun.append(text)
        yield Speech(self.speech)
        await self.go_on[text].wait()


class World:
    def __init__(self, engine: Gated, tasks: asyncio.TaskGroup) -> None:
        self._bus = SimulatedBus(random.Random(0), (0.0, 0.0))
        self._leases, self._tasks = SimulatedLeases(self._bus), tasks
        self._stage = TtsStage(engine, "gated", AHEAD_S)
        self.works: dict[str, Work] = {}

    def give(self, text: str) -> asyncio.Task[object]:
        """Give the stage a sentence that is named by its session and its index."""
        session, index = text
        lease = Lease(b"jobs", f"{text}-0", 1, ReplySentence(session, 1, 0, int(index), text, "", 1.0, "en", ""))
        self._leases.fences[lease.id] = lease.fence
        work = self.works[text] = Work(self._bus, self._leases, "tts", lease)
        return self._tasks.create_task(self._stage.work(work))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_reply_does_not_delay_its_own_first_sentence(in_order: bool) -> None:
    engine = Gated(in_order=in_order)
    async with asyncio.TaskGroup() as tasks:
        world = World(engine, tasks)
        for text in ("a0", "a1", "b0"):
            world.give(text)
        await settle()
        assert engine.begun == (["a0", "b0"] if in_order else ["a0", "a1", "b0"])
        for event in engine.go_on.values():
            event.set()
    assert sorted(engine.begun) == ["a0", "a1", "b0"]


async def test_a_sentence_that_is_stopped_lets_the_next_one_begin() -> None:
    engine = Gated(in_order=True)
    async with asyncio.TaskGroup() as tasks:
        world = World(engine, tasks)
        first, _ = world.give("a0"), world.give("a1")
        await settle()
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await settle()
        assert engine.begun == ["a0", "a1"]
        engine.go_on["a1"].set()


async def test_a_reply_that_is_far_ahead_of_its_playing_waits_and_takes_no_slot() -> None:
    engine = Gated(in_order=True)
    engine.speech = bytes(2 * 16_000)  # a second: 0.8 s more than may be ahead
    async with asyncio.TaskGroup() as tasks:
        world = World(engine, tasks)
        for text in ("a0", "a1", "b0"):
            world.give(text)
        for event in engine.go_on.values():
            event.set()
        await settle()
        assert engine.begun == ["a0", "b0"]
        assert [name for name, work in world.works.items() if work.is_parked] == ["a1"]
        began_s = asyncio.get_running_loop().time()
        while "a1" not in engine.begun:
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began_s > 0.5
        assert not world.works["a1"].is_parked
