"""Engines that take their time, so that a worker can be killed in the middle of what it does."""

import asyncio
import os
import struct
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from services.tts.engine import Speech
from shared.engines import EngineLost
from shared.session import Message, Tool
from shared.settings import Settings

TEXT = "The first sentence is here. The second sentence follows it. The third one is the last."
STEP_S = 0.04
TOKEN_S = 0.1
"""Long enough that a busy machine still kills the model in the middle of its reply."""
SLICE, SLICES = 800, 20


class SlowModel:
    """Replies with three sentences, a few letters at a time."""

    slots = 16

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str, None]:
        assert TEXT.startswith(prefix)
        for at in range(len(prefix), len(TEXT), 4):
            await asyncio.sleep(TOKEN_S)
            yield TEXT[at : at + 4]

    async def close(self) -> None:
        pass


class SlowVoice:
    """Speaks a ramp, 50 ms of it at a time."""

    slots = 16
    rate_hz = 16_000

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    def voices(self) -> tuple[str, ...]:
        return ("slow",)

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        for number in range(SLICES):
            await asyncio.sleep(STEP_S)
            yield Speech(struct.pack(f"<{SLICE}h", *range(number * SLICE, (number + 1) * SLICE)))

    async def close(self) -> None:
        pass


class LostVoice(SlowVoice):
    """Its device dies in the middle of a first sentence, as often as the file TEST_LOSSES says."""

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        losses = Path(os.environ["TEST_LOSSES"])
        left = int(losses.read_text())
        async for piece in super().speak(text, voice=voice, speed=speed, language=language):
            if left > 0 and TEXT.startswith(text):
                losses.write_text(str(left - 1))
                raise EngineLost("the device has no memory left")
            yield piece
