"""A tts worker and its broker: which voice a sentence is spoken with, while voices come, change and go."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.tts.engine import Cloner, Speech
from services.tts.engines.scripted import ScriptedSynthesizer
from services.tts.stage import TtsStage
from shared.audio.voices import ClonedVoice, cloned_voice
from shared.bus.bus import Bus
from shared.bus.leases import Leases
from shared.protocol.frames import Frame, ReplySentence, StageFailed, VoiceChunk, VoiceDone
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.worker import Worker
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S

ANN = cloned_voice("ann", "This is Ann.", 24_000, b"\1\0" * 24_000)
OTHER_ANN = cloned_voice("ann", "This is Ann.", 24_000, b"\2\0" * 24_000)


class Parrot:
    """Speaks three slices; each is the first sample of its voice's recording."""

    rate_hz, slots, in_order = 24_000, 4, True

    def __init__(self) -> None:
        self.learnt: list[ClonedVoice] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def load(self) -> None: ...

    def voices(self) -> tuple[str, ...]:
        return ("polly",)

    def text_language(self, voice: str, language: str) -> str:
        return ""

    def learn(self, voice: ClonedVoice) -> None:
        self.learnt.append(voice)

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        pcm = b"\0\0" if voice in ("", "polly") else self.learnt[-1].pcm[:2]
        for _ in range(3):
            yield Speech(pcm)
            await self.go_on.wait()

    async def close(self) -> None: ...


class Speaking:
    """A worker, a bus to give it sentences with, and what it said."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.frames: list[Frame] = []
        self.turn = 0

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(HANG_S):
            while not reached():
                await asyncio.sleep(0.005)

    def begin(self, voice: str) -> None:
        self.turn += 1
        self.frames.clear()
        self.bus.channel("llm", "s").publish(ReplySentence("s", self.turn, 0, 0, "Hello.", voice, 1.0, "en"))

    async def end(self) -> set[bytes]:
        """What was spoken."""
        await self.until(lambda: any(isinstance(frame, VoiceDone) for frame in self.frames))
        return {frame.pcm for frame in self.frames if isinstance(frame, VoiceChunk)}

    async def say(self, voice: str) -> set[bytes]:
        self.begin(voice)
        return await self.end()

    async def fail(self, voice: str) -> str:
        """Why there was no speech."""
        self.begin(voice)
        await self.until(lambda: any(isinstance(frame, StageFailed) for frame in self.frames))
        return next(frame.message for frame in self.frames if isinstance(frame, StageFailed))


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path) as settings:
        yield settings


@asynccontextmanager
async def speaking(where: Settings, engine: Any) -> AsyncIterator[Speaking]:
    shutdown = Shutdown(1)
    async with Bus.connect(where, "tts") as bus, Bus.connect(where, "edge") as edge, asyncio.TaskGroup() as tasks:
        await edge.call(b"XADD", edge.keys.stream(StreamKind.OUT, "s"), b"*", b"x", b"")
        tasks.create_task(
            Worker(TtsStage(engine, "test", 30.0), where, shutdown, bus, Leases(bus, "tts", where.lease_ms)).run()
        )
        said = Speaking(edge)
        edge.follow(StreamKind.OUT, "s", "0-0", lambda at, _, frames: said.frames.extend(frames))
        yield said
        shutdown.request()


async def test_a_sentence_is_spoken_with_the_voice_as_it_is_when_it_begins(where: Settings) -> None:
    parrot = Parrot()
    async with speaking(where, parrot) as said:
        assert await said.say("") == await said.say("polly") == {b"\0\0"}
        assert parrot.learnt == []
        assert "unknown voice 'ann'" in await said.fail("ann")
        await said.bus.put_voice(ANN, replace=False)
        assert await said.say("ann") == await said.say("ann") == {b"\1\0"}
        assert parrot.learnt[0] is parrot.learnt[1]  # its recording crossed the wire once
        await said.bus.put_voice(OTHER_ANN, replace=True)
        assert await said.say("ann") == {b"\2\0"}
        await said.bus.drop_voice("ann")
        assert "unknown voice 'ann'" in await said.fail("ann")


async def test_a_voice_that_is_deleted_in_the_middle_of_a_sentence_finishes_it(where: Settings) -> None:
    parrot = Parrot()
    async with speaking(where, parrot) as said:
        await said.bus.put_voice(ANN, replace=False)
        parrot.go_on.clear()
        said.begin("ann")
        await said.until(lambda: any(isinstance(frame, VoiceChunk) for frame in said.frames))
        await said.bus.drop_voice("ann")
        parrot.go_on.set()
        assert await said.end() == {b"\1\0"}


async def test_an_engine_that_cannot_clone_is_left_to_say_so_itself(where: Settings) -> None:
    engine = ScriptedSynthesizer(where)
    assert not isinstance(engine, Cloner)
    assert TtsStage(engine, "scripted", 30.0).info()["clones"] is False
    assert TtsStage(Parrot(), "parrot", 30.0).info()["clones"] is True
    async with speaking(where, engine) as said:
        await said.bus.put_voice(ANN, replace=False)
        assert "available: scripted" in await said.fail("ann")
