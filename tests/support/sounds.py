"""Test sounds for recognisers: synthetic voices, noise and hum."""

from collections.abc import Sequence

import numpy as np

from services.asr.engine import Utterance
from services.asr.engines.model import Clip, Recognition
from shared.protocol.session import RATE_HZ

CHUNK_BYTES = 2 * RATE_HZ // 10


def voice(seconds: float, seed: int = 0) -> bytes:
    """A sound with the spectrum of a vowel that changes all the time: no two seconds are the same."""
    chance = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * at + seed)) / RATE_HZ
    tone = sum(np.sin(harmonic * pitch + chance.uniform(0, 6)) / harmonic for harmonic in range(1, 12))
    loud = 0.6 + 0.4 * np.sin(2 * np.pi * 3.1 * at)
    return ((tone * loud * 0.2 + chance.normal(0, 0.002, len(at))) * 32_767).astype("<i2").tobytes()


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> bytes:
    return (np.random.default_rng(seed).normal(0, level, round(seconds * RATE_HZ)) * 32_767).astype("<i2").tobytes()


def hum(seconds: float) -> bytes:
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (np.sin(2 * np.pi * 50 * at) * 8_000).astype("<i2").tobytes()


def clip(seconds: float, seed: int = 0, language: str = "", hints: str = "") -> Clip:
    return Clip((voice(seconds, seed),), language, hints)


async def feed(utterance: Utterance, pcm: bytes) -> list[str]:
    """Pass the audio to the utterance in chunks of 100 ms. Returns the partial transcripts."""
    partials = [await utterance.accept(pcm[at : at + CHUNK_BYTES]) for at in range(0, len(pcm), CHUNK_BYTES)]
    return [partial for partial in partials if partial is not None]


def texts(recognitions: Sequence[Recognition]) -> list[str]:
    return [recognition.text for recognition in recognitions]
