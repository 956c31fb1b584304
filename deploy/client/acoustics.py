"""What a room and a telephone line do to speech, by rule. Pure: the same seed gives the same samples."""

from collections.abc import Callable, Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from shared.audio.pcm import LAW_RATE_HZ, decode_law, encode_law
from shared.protocol.session import RATE_HZ

Samples = NDArray[np.float32]

SPEECH_DB = -26.0
"""RMS level of speech, in dBFS."""
REVERBERATION_S = 0.4
"""Time in which the sound of a furnished room decays by 60 dB (RT60)."""
DIRECT_DB = 6.0
"""Level of the direct sound above its reverberation: a microphone at an arm's length."""
HUM_HZ, HUM_DB = 50.0, 35.0
"""Mains hum with its harmonics, in dB below the speech."""
BABBLE_DB = 20.0
"""Other people who talk in the room, in dB below the speech."""
TALKERS = 6
LOWEST_HZ = 300.0
"""A telephone passes 300 to 3400 Hz; the codec's sample rate cuts the upper end."""
SILENCE_RMS = 6e-5
"""-84 dBFS: a microphone is never at digital zero."""


def clean(samples: Samples, others: Sequence[Samples], seed: int) -> Samples:
    """Add what a good microphone adds to silence."""
    hiss = np.random.default_rng(seed).normal(0, SILENCE_RMS, len(samples))
    return (samples + hiss).astype(np.float32)


def room(samples: Samples, others: Sequence[Samples], seed: int) -> Samples:
    """Add reverberation, mains hum and the babble of `others`, other people's sentences."""
    random = np.random.default_rng(seed)
    heard = reverberated(samples, random)
    heard += _rms(BABBLE_DB) * _unit(_babble(len(samples), others, random))
    heard += _rms(HUM_DB) * _unit(_hum(len(samples)))
    return clean(heard, others, seed)


def telephone(samples: Samples, others: Sequence[Samples], seed: int) -> Samples:
    """Pass clean speech through the band and the codec of a telephone (G.711, mu-law)."""
    spectrum = np.fft.rfft(clean(samples, others, seed))
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE_HZ) < LOWEST_HZ] = 0
    narrow = soxr.resample(np.fft.irfft(spectrum, len(samples)), RATE_HZ, LAW_RATE_HZ)
    coded = encode_law("ulaw", (narrow * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes())
    decoded = np.frombuffer(decode_law("ulaw", coded), "<i2").astype(np.float32) / 32_768
    wide: Samples = soxr.resample(decoded, LAW_RATE_HZ, RATE_HZ)
    return np.pad(wide, (0, max(0, len(samples) - len(wide))))[: len(samples)]


Condition = Callable[[Samples, Sequence[Samples], int], Samples]
CONDITIONS: dict[str, Condition] = {
    "clean": clean,
    "room": room,
    "telephone": telephone,
}


def condition_named(name: str) -> Condition:
    """Raises `ValueError` for an unknown name."""
    if name not in CONDITIONS:
        raise ValueError(f"unknown acoustics {name!r}; there are {', '.join(CONDITIONS)}")
    return CONDITIONS[name]


def _rms(below_db: float) -> float:
    """Return the RMS of a sound that many dB below speech."""
    return float(10 ** ((SPEECH_DB - below_db) / 20))


def reverberated(samples: Samples, random: np.random.Generator) -> Samples:
    """Convolve with an exponentially decaying noise, the usual model of a diffuse room."""
    count = int(REVERBERATION_S * RATE_HZ)
    tail = random.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    response = tail / np.sqrt(np.square(tail).sum()) * 10 ** (-DIRECT_DB / 20)
    response[0] = 1.0
    size = len(samples) + count
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    heard: Samples = wet.astype(np.float32)
    return heard


def _babble(count: int, others: Sequence[Samples], random: np.random.Generator) -> Samples:
    babble = np.zeros(count, np.float32)
    for _ in range(TALKERS if others else 0):
        voices = np.concatenate([others[at] for at in random.permutation(len(others))])
        babble += np.resize(np.roll(voices, int(random.integers(len(voices)))), count)
    return babble


def _hum(count: int) -> Samples:
    time_s = np.arange(count) / RATE_HZ
    harmonics = [np.sin(2 * np.pi * HUM_HZ * order * time_s) / order for order in (1, 2, 3, 5)]
    hum: Samples = np.sum(harmonics, axis=0).astype(np.float32)
    return hum


def _unit(samples: Samples) -> Samples:
    """Scale to an RMS of 1; silence stays silent."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    return samples / np.float32(rms) if rms else samples
