"""Engines of the simulation. Each takes a random time, and its result follows from its input.

The transcript says how many loud samples were heard, the reply repeats the transcript, and every sample of the voice
depends on the sentence and on its place in it. So a sample that belongs to another reply shows.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from services.asr.engine import Transcript
from services.tts.engine import Speech
from shared.protocol.session import RATE_HZ, Message, Tool, Word

CHUNK = RATE_HZ // 10
"""Samples that the client sends at once."""
SLICE = 1_600
"""Samples that the voice gives at once."""
COUGH = 3
"""Chunks; shorter speech has no words in it."""

Samples = npt.NDArray[np.int16]


def voice_of(text: str) -> Samples:
    """The samples of a sentence, s16, different for each sentence."""
    samples = np.arange(SLICE * (2 + crc32(text.encode()) % 5), dtype=np.int64)
    return ((samples + crc32(text.encode())) % 32_767).astype("<i2")


def reply_to(said: str) -> tuple[str, ...]:
    """The sentences of the reply to a transcript."""
    return (f"You said {said} to me.", f" Again, that was {said} and no more.", f" So {said} it is.")


class Detector:
    """Takes every window whose first sample is not 0 for speech."""

    blocking = False

    async def load(self) -> None: ...

    def open(self) -> None: ...

    def judge(self, batch: Sequence[tuple[Any, bytes]]) -> list[list[float]]:
        return [[float(pcm[at] != 0) for at in range(0, len(pcm), 640)] for _, pcm in batch]

    async def close(self) -> None: ...


class Slow:
    """A model that takes a random time."""

    slots = 1_000
    in_order = True  # if it is a synthesizer
    rate_hz = RATE_HZ

    def __init__(self, chance: random.Random, longest_s: float) -> None:
        self._chance, self._longest_s = chance, longest_s

    async def load(self) -> None: ...

    async def close(self) -> None: ...

    async def pause(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, self._longest_s))


class Recognizer(Slow):
    """Understands how many loud samples there were."""

    async def open(self, language: str, hints: str = "") -> "Utterance":
        return Utterance(self)


class Utterance:
    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer, self._loud = recognizer, 0

    def _text(self) -> str:
        return f"{self._loud} samples" if self._loud > COUGH * CHUNK else ""

    async def accept(self, pcm: bytes) -> str | None:
        self._loud += int(np.count_nonzero(np.frombuffer(pcm, "<i2")))
        return self._text() or None

    async def finish(self) -> Transcript:
        await self._recognizer.pause()
        return Transcript(self._text())

    def close(self) -> None: ...


class Model(Slow):
    """Repeats the transcript, or how many loud samples it heard. Another worker's model says the same words, so it can go on."""

    audio_input = True

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        audio: bytes = b"",
    ) -> AsyncGenerator[str, None]:
        await self.pause()
        said = f"{np.count_nonzero(np.frombuffer(audio, '<i2'))} samples" if audio else messages[-1].text
        text = "".join(reply_to(said))
        for at in range(len(prefix), len(text), 7):
            if self._chance.random() < 0.3:
                await self.pause()
            yield text[at : at + 7]


class Voice(Slow):
    def voices(self) -> tuple[str, ...]:
        return ("simulated",)

    def text_language(self, voice: str, language: str) -> str:
        return ""

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        samples = voice_of(text)
        for at in range(0, len(samples), SLICE):
            await self.pause()
            words = (Word(text, 0, len(samples)),) if at == 0 else ()
            yield Speech(samples[at : at + SLICE].tobytes(), words)
