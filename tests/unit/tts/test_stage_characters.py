"""The tts stage counts the characters that it sends to its engine."""

import random
from collections.abc import AsyncIterator
from itertools import count

import pytest
from prometheus_client import REGISTRY

from services.tts.engine import Speech
from services.tts.engines.scripted import ScriptedSynthesizer
from services.tts.stage import TtsStage
from shared.bus.leases import Lease
from shared.protocol.frames import ReplySentence
from shared.settings import Settings
from shared.worker.work import Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases

ENGINE = "counts-characters"


class Breaks(ScriptedSynthesizer):
    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncIterator[Speech]:
        async for piece in super().speak(text, voice=voice, speed=speed, language=language):
            yield piece
            raise ConnectionError


def characters() -> float | None:
    return REGISTRY.get_sample_value("parley_tts_characters_total", {"engine": ENGINE})


async def test_characters_are_counted_for_each_attempt() -> None:
    bus = SimulatedBus(random.Random(0), (0.0, 0.0))
    leases, attempts = SimulatedLeases(bus), count(1)
    settings = Settings(scripted_tts_ms=0, scripted_tts_seconds=0.5)

    async def speak(stage: TtsStage, text: str) -> None:
        sentence = ReplySentence("s", 1, 0, 0, text, "", 1.0, "en", "")
        lease = Lease(b"jobs", "1-0", next(attempts), sentence)
        leases.fences[lease.id] = lease.fence
        await stage.work(Work(bus, leases, "tts", lease))

    stage = TtsStage(ScriptedSynthesizer(settings), ENGINE, 30.0)
    await stage.load()
    assert characters() == 0
    with pytest.raises(ConnectionError):
        await speak(TtsStage(Breaks(settings), ENGINE, 30.0), "Grüße.")
    assert characters() == 6
    await speak(stage, "Grüße.")
    await speak(stage, "")
    assert characters() == 12
