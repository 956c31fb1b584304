"""Synthetic speakers for the benchmarks, and their sentences. The rules are here; the audio lies in the user's cache."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks.speech.kokoro import RATE_HZ as KOKORO_HZ
from benchmarks.speech.kokoro import KokoroSpeakers
from deploy.client.performance import Samples, levelled, read_sound, spoken
from services.tts.engines.piper import PiperSynthesizer
from shared.engines.registry import loaded
from shared.protocol.session import RATE_HZ
from shared.settings import Settings
from shared.settings_service import user_cache

CACHE = user_cache() / "parley" / "benchmarks"
RULES = 1
"""Increase it when the same line would sound different: the cached audio is then not used any more."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody who reads lines."""

    name: str
    engine: str
    """`piper` (the voice joe), `kokoro` or `espeak`."""
    voice: str = ""
    tempo: float = 1.0
    """Speaking rate; 1 is the voice's own."""
    pitch: float = 1.0
    """Factor of the pitch and of the formants, by resampling: above 1 the speaker is smaller than the voice's own."""


SPEAKERS = {
    speaker.name: speaker
    for speaker in (
        Speaker("joe", "piper"),
        Speaker("joe-fast", "piper", tempo=1.25),
        Speaker("joe-slow", "piper", tempo=0.85),
        Speaker("small", "piper", tempo=1.05, pitch=1.19),
        Speaker("tall", "piper", tempo=0.95, pitch=0.87),
        Speaker("alpha", "kokoro", "jf_alpha"),
        Speaker("nezumi", "kokoro", "jf_nezumi", tempo=1.15),
        Speaker("tebukuro", "kokoro", "jf_tebukuro", tempo=0.9),
        Speaker("kumo", "kokoro", "jm_kumo"),
        Speaker("espeak", "espeak"),
    )
}
NEURAL = tuple(name for name, speaker in SPEAKERS.items() if speaker.engine != "espeak")


def speaker_named(name: str) -> Speaker:
    """Raises `ValueError` for an unknown name."""
    if name not in SPEAKERS:
        raise ValueError(f"unknown speaker {name!r}; there are {', '.join(SPEAKERS)}")
    return SPEAKERS[name]


Line = tuple[Speaker, str]
"""Who says what."""


def read_lines(lines: Iterable[Line], progress: Callable[[str], object] = lambda text: None) -> dict[Line, Samples]:
    """Return the speech of each line: 16 kHz, trimmed, at the usual level. What is not in the cache is synthesised.

    `progress` is called with the name of each speaker for whom something is synthesised.

    Raises:
        UnknownEngine: a voice or its engine is not installed, or cannot be downloaded.
    """
    wanted = dict.fromkeys(lines)
    by_speaker: dict[Speaker, list[str]] = {}
    for speaker, text in wanted:
        if not _file(speaker, text).is_file():
            by_speaker.setdefault(speaker, []).append(text)
    for speaker, texts in by_speaker.items():
        progress(speaker.name)
        asyncio.run(_synthesize(speaker, texts))
    return {line: read_sound(_file(*line)) for line in wanted}


async def _synthesize(speaker: Speaker, texts: list[str]) -> None:
    tempo = speaker.tempo / speaker.pitch  # resampling changes the tempo, too
    if speaker.engine == "espeak":
        for text, samples in (await spoken(texts, tempo)).items():
            _keep(speaker, text, samples, RATE_HZ)
    elif speaker.engine == "kokoro":
        kokoro = _kokoro()
        for text in texts:
            _keep(speaker, text, kokoro.speak(text, speaker.voice, tempo), KOKORO_HZ)
    else:
        async with loaded(PiperSynthesizer(Settings())) as piper:
            for text in texts:
                async with aclosing(piper.speak(text, voice=speaker.voice, speed=tempo, language="en")) as pieces:
                    pcm = b"".join([piece.pcm async for piece in pieces])
                _keep(speaker, text, np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768), piper.rate_hz)


@cache
def _kokoro() -> KokoroSpeakers:
    return KokoroSpeakers(CACHE)


def _keep(speaker: Speaker, text: str, samples: Samples, rate_hz: int) -> None:
    """Write a line to the cache. Several benchmarks may write the same line at once."""
    path = _file(speaker, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    shifted = soxr.resample(samples, rate_hz * speaker.pitch, RATE_HZ)
    soundfile.write(unfinished, levelled(shifted), RATE_HZ, format="WAV", subtype="PCM_16")
    unfinished.replace(path)


def _file(speaker: Speaker, text: str) -> Path:
    digest = hashlib.sha256(repr((RULES, speaker, text)).encode()).hexdigest()
    return CACHE / "lines" / f"{digest[:32]}.wav"
