"""One loudness for all who speak: their active speech level, as a whole or in slices as they come. Pure."""

from collections import OrderedDict
from statistics import median
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Powers = NDArray[np.float64]
"""Of blocks of 10 ms; 1.0 is that of the loudest square wave."""

LEVEL_DBFS = -20.0
"""Active speech level of every engine: that of the embedded voice (measured: -19.2 to -21.4 in six sentences)."""

MOST_GAIN_DB = 18.0
"""A voice that is softer than this much is left soft: what is louder then is noise."""

PEAK = 0.97
BLOCK_MS = 10
FLOOR_DB = 40.0
"""So much below the loudest block it is silence."""

HEARD_S = 30.0
"""Of a voice's active speech, the latest: so much is its level taken from."""
LEAST_HEARD_S = 0.3
"""A "yes" says little of how loud a voice is."""
LEAST_DBFS = -60.0
"""What is softer is the hiss of a silence, and no voice."""
MOST_VOICES = 64
"""Voices remembered, those that spoke last: 24 kB each. A name may be anything that a client asks for."""
RAMP_MS = 5
"""In this a gain would fall to nothing; faster it does not fall: no click. What is too loud until then is clipped."""

_MARGIN_DB = 15.9  # of P.56
_FULL = 32_768
_LOUDEST = int(PEAK * _FULL)


def block_powers(wave: Floats, rate_hz: int) -> Powers:
    """Power of each whole block."""
    block = rate_hz * BLOCK_MS // 1000
    blocks = wave[: len(wave) // block * block].reshape(-1, block)
    powers: Powers = np.square(blocks, dtype=np.float64).mean(axis=1)
    return powers


def active(powers: Powers) -> Powers:
    """Those of speech: within 15.9 dB of the mean of those that sound (after ITU-T P.56); none in silence."""
    sounding: Powers = powers[powers > max(powers.max(initial=0.0) * 10 ** (-FLOOR_DB / 10), 1e-12)]
    return sounding[sounding >= sounding.mean() * 10 ** (-_MARGIN_DB / 10)] if len(sounding) else sounding


def level_dbfs(wave: Floats, rate_hz: int) -> float:
    """Active speech level; -120 where there is no speech."""
    found = active(block_powers(wave, rate_hz))
    return _dbfs(found) if len(found) else -120.0


def level(wave: Floats, rate_hz: int) -> Floats:
    """The same at `LEVEL_DBFS`, as far as its peaks allow."""
    peak = float(np.abs(wave).max(initial=0.0))
    if peak == 0.0:
        return wave
    gain_db = min(LEVEL_DBFS - level_dbfs(wave, rate_hz), MOST_GAIN_DB)
    return (wave * np.float32(min(10 ** (gain_db / 20), PEAK / peak))).astype(np.float32)


class Leveller:
    """Brings the voices of one server to `LEVEL_DBFS`: the next sentence of each, by what was heard of it before.

    A sentence is played while it comes, so that its own level is known too late.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._heard: OrderedDict[str, Powers] = OrderedDict()

    def gain_db(self, voice: str) -> float:
        """For its next sentence. Of a voice that nobody has heard yet: the median of the others; 0 where there are none."""
        if voice in self._heard:
            return _gain_db(self._heard[voice])
        return median(_gain_db(powers) for powers in self._heard.values()) if self._heard else 0.0

    def sentence(self, voice: str) -> "LevelledSentence":
        """To be entered, fed with its slices, and left: only then is it learnt from, be it whole or cut off."""
        return LevelledSentence(self, voice)

    def learn(self, voice: str, powers: Powers) -> None:
        """The blocks of one sentence. Silence, and what is too short, say nothing."""
        found = active(powers)
        if len(found) < LEAST_HEARD_S * 1000 / BLOCK_MS or _dbfs(found) < LEAST_DBFS:
            return
        before = self._heard.pop(voice, found[:0])
        self._heard[voice] = _latest(before, found)
        while len(self._heard) > MOST_VOICES:
            self._heard.popitem(last=False)


class LevelledSentence:
    """One sentence: its gain is that of its first slice, and falls where a peak would be too loud; it never rises."""

    def __init__(self, leveller: Leveller, voice: str) -> None:
        self._leveller, self._voice = leveller, voice
        self._rest = np.zeros(0, np.float32)  # less than a block
        self._powers: Powers = np.zeros(0)
        self._gain: float | None = None
        self._wanted = self._fall = 0.0  # where the gain is going, and how far at most with each sample

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leveller.learn(self._voice, self._powers)

    def feed(self, pcm: bytes) -> bytes:
        """The same slice (s16le) at the sentence's gain.

        Raises:
            ValueError: an odd number of bytes.
        """
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        self._hear(samples)
        levelled: bytes = np.rint(self._amplify(samples)).clip(-_LOUDEST, _LOUDEST).astype("<i2").tobytes()
        return levelled

    def _hear(self, samples: Floats) -> None:
        wave = np.concatenate((self._rest, samples / np.float32(_FULL)))
        powers = block_powers(wave, self._leveller.rate_hz)
        self._rest = wave[len(powers) * (self._leveller.rate_hz * BLOCK_MS // 1000) :]
        self._powers = _latest(self._powers, powers)

    def _amplify(self, samples: Floats) -> Floats:
        if self._gain is None:
            self._gain = self._wanted = 10 ** (self._leveller.gain_db(self._voice) / 20)
            self._fall = self._gain * 1000 / (self._leveller.rate_hz * RAMP_MS)
        gain, loudness = self._gain, np.abs(samples)
        self._wanted = min(self._wanted, _LOUDEST / max(float(loudness.max(initial=0.0)), 1.0))
        if gain <= self._wanted:
            return samples * np.float32(gain)
        loud = np.flatnonzero(loudness * gain > _LOUDEST)
        # It has all the time until the first peak that would be too loud.
        steps = max(float(loud[0]) if len(loud) else 0.0, (gain - self._wanted) / self._fall)
        gains = np.interp(np.arange(len(samples) + 1), (0, steps), (gain, self._wanted))
        self._gain = float(gains[-1])
        falling: Floats = samples * gains[1:].astype(np.float32)
        return falling


def _latest(before: Powers, after: Powers) -> Powers:
    return np.concatenate((before, after))[-round(HEARD_S * 1000 / BLOCK_MS) :]


def _dbfs(powers: Powers) -> float:
    return float(10 * np.log10(powers.mean()))


def _gain_db(powers: Powers) -> float:
    return min(LEVEL_DBFS - _dbfs(powers), MOST_GAIN_DB)
