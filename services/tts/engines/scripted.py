"""A synthesizer with a fixed output: audio of a configured length. For benchmarks and tests.

Sample i of every sentence has the value i modulo 32768, so that the receiver can detect lost and duplicate samples.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np

from services.tts.engine import Speech
from shared.protocol.session import Word
from shared.settings import Settings

SLICE_MS = 200


class ScriptedSynthesizer:
    """See `engine.Synthesizer`."""

    in_order = False
    rate_hz = 16_000
    slots = 256

    def __init__(self, settings: Settings) -> None:
        self._delay_s = settings.scripted_tts_ms / 1000
        self._samples = max(1, round(settings.scripted_tts_seconds * self.rate_hz))
        ramp = (np.arange(self._samples) % 32_768).astype("<i2").tobytes()
        step = 2 * SLICE_MS * self.rate_hz // 1000
        self._slices = tuple(ramp[start : start + step] for start in range(0, len(ramp), step))

    async def load(self) -> None:
        pass

    def voices(self) -> tuple[str, ...]:
        return ("scripted",)

    def text_language(self, voice: str, language: str) -> str:
        return ""

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncIterator[Speech]:
        """Yield the same audio for every text, with the words at equal distances; nothing for an empty text.

        Raises:
            ValueError: the voice is neither empty nor `scripted`.
        """
        if voice not in ("", "scripted"):
            raise ValueError(f"unknown voice {voice!r}; available: scripted")
        if not text.strip():
            return
        words = _word_times(text.split(), self._samples)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        next_word = end = 0
        for pcm in self._slices:
            first, end = next_word, end + len(pcm) // 2
            while next_word < len(words) and words[next_word].start < end:
                next_word += 1
            yield Speech(pcm, words[first:next_word])

    async def close(self) -> None:
        pass


def _word_times(texts: list[str], samples: int) -> tuple[Word, ...]:
    marks = [samples * index // len(texts) for index in range(len(texts) + 1)]
    return tuple(Word(text, start, end) for text, (start, end) in zip(texts, pairwise(marks), strict=True))
