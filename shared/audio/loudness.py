"""Bring all synthesised speech to one active speech level, whole waveforms or slices of a stream. Pure."""

from collections import OrderedDict
from statistics import median
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Powers = NDArray[np.float64]
"""Mean power of each 10 ms block; 1.0 is a full-scale square wave."""

LEVEL_DBFS = -20.0
"""Active speech level of every engine: the level of the embedded voice (-19.2 to -21.4 in six sentences)."""

MAX_GAIN_DB = 18.0
"""A higher gain would mostly amplify noise; softer voices stay softer."""

PEAK = 0.97
BLOCK_MS = 10
FLOOR_DB = 40.0
"""Blocks this far below the loudest block count as silence."""

WINDOW_S = 30.0
"""The level of a voice is measured over its latest active speech of this length."""
MIN_SENTENCE_S = 0.3
"""Sentences with less active speech, such as "yes", do not represent a voice's level and are ignored."""
MIN_DBFS = -60.0
"""Softer sentences are hiss, not speech, and are ignored."""
MAX_VOICES = 64
"""Most recently used voices that are remembered, 24 kB each. Limited because clients choose the names."""
RAMP_MS = 5
"""Shortest time in which the gain may fall to zero: a faster fall clicks. Louder samples are clipped meanwhile."""

_MARGIN_DB = 15.9  # ITU-T P.56
_FULL = 32_768
_LOUDEST = int(PEAK * _FULL)


def block_powers(wave: Floats, rate_hz: int) -> Powers:
    block = rate_hz * BLOCK_MS // 1000
    blocks = wave[: len(wave) // block * block].reshape(-1, block)
    powers: Powers = np.square(blocks, dtype=np.float64).mean(axis=1)
    return powers


def active(powers: Powers) -> Powers:
    """Return the blocks of active speech: within 15.9 dB of the mean of all blocks that are not silent (ITU-T P.56)."""
    audible: Powers = powers[powers > max(powers.max(initial=0.0) * 10 ** (-FLOOR_DB / 10), 1e-12)]
    return audible[audible >= audible.mean() * 10 ** (-_MARGIN_DB / 10)] if len(audible) else audible


def level_dbfs(wave: Floats, rate_hz: int) -> float:
    """Return the active speech level; -120 if there is no speech."""
    found = active(block_powers(wave, rate_hz))
    return _dbfs(found) if len(found) else -120.0


def level(wave: Floats, rate_hz: int) -> Floats:
    """Return the waveform at `LEVEL_DBFS`, or below if its peaks would exceed `PEAK`."""
    peak = float(np.abs(wave).max(initial=0.0))
    if peak == 0.0:
        return wave
    gain_db = min(LEVEL_DBFS - level_dbfs(wave, rate_hz), MAX_GAIN_DB)
    return (wave * np.float32(min(10 ** (gain_db / 20), PEAK / peak))).astype(np.float32)


class Leveller:
    """Brings the voices of one server to `LEVEL_DBFS`, each sentence by the level of the voice's earlier sentences.

    The sentence itself is streamed, so its own level is known only after it was sent.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._voices: OrderedDict[str, Powers] = OrderedDict()

    def gain_db(self, voice: str) -> float:
        """Return the gain for the voice's next sentence; for a new voice the median of the others, or 0."""
        if voice in self._voices:
            return _gain_db(self._voices[voice])
        return median(_gain_db(powers) for powers in self._voices.values()) if self._voices else 0.0

    def knows(self, voice: str) -> bool:
        """Whether the level of the voice has been learnt."""
        return voice in self._voices

    def sentence(self, voice: str) -> "LevelledSentence":
        """Return a context manager that levels a sentence's slices; on exit it learns the level, even if incomplete."""
        return LevelledSentence(self, voice)

    def learn(self, voice: str, powers: Powers) -> None:
        """Learn from the blocks of one sentence. Silent and very short sentences are ignored."""
        speech = active(powers)
        if len(speech) < MIN_SENTENCE_S * 1000 / BLOCK_MS or _dbfs(speech) < MIN_DBFS:
            return
        before = self._voices.pop(voice, speech[:0])
        self._voices[voice] = _latest(before, speech)
        while len(self._voices) > MAX_VOICES:
            self._voices.popitem(last=False)


class LevelledSentence:
    """One sentence. The gain is fixed at its first slice; it falls if a peak would be too loud, and never rises."""

    def __init__(self, leveller: Leveller, voice: str) -> None:
        self._leveller, self._voice = leveller, voice
        self._rest = np.zeros(0, np.float32)  # samples of an incomplete block
        self._powers: Powers = np.zeros(0)
        self._gain: float | None = None
        self._target = self._max_step = 0.0  # the gain to reach, and its largest change per sample

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leveller.learn(self._voice, self._powers)

    def feed(self, pcm: bytes) -> bytes:
        """Return the slice (s16le) at the sentence's gain.

        Raises:
            ValueError: an odd number of bytes.
        """
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        self._measure(samples)
        levelled: bytes = np.rint(self._amplify(samples)).clip(-_LOUDEST, _LOUDEST).astype("<i2").tobytes()
        return levelled

    def _measure(self, samples: Floats) -> None:
        wave = np.concatenate((self._rest, samples / np.float32(_FULL)))
        powers = block_powers(wave, self._leveller.rate_hz)
        self._rest = wave[len(powers) * (self._leveller.rate_hz * BLOCK_MS // 1000) :]
        self._powers = _latest(self._powers, powers)

    def _amplify(self, samples: Floats) -> Floats:
        if self._gain is None:
            self._gain = self._target = 10 ** (self._leveller.gain_db(self._voice) / 20)
            self._max_step = self._gain * 1000 / (self._leveller.rate_hz * RAMP_MS)
        gain, loudness = self._gain, np.abs(samples)
        self._target = min(self._target, _LOUDEST / max(float(loudness.max(initial=0.0)), 1.0))
        if gain <= self._target:
            return samples * np.float32(gain)
        loud = np.flatnonzero(loudness * gain > _LOUDEST)
        # The ramp may last until the first peak that would be too loud.
        steps = max(float(loud[0]) if len(loud) else 0.0, (gain - self._target) / self._max_step)
        gains = np.interp(np.arange(len(samples) + 1), (0, steps), (gain, self._target))
        self._gain = float(gains[-1])
        falling: Floats = samples * gains[1:].astype(np.float32)
        return falling


def _latest(before: Powers, after: Powers) -> Powers:
    return np.concatenate((before, after))[-round(WINDOW_S * 1000 / BLOCK_MS) :]


def _dbfs(powers: Powers) -> float:
    return float(10 * np.log10(powers.mean()))


def _gain_db(powers: Powers) -> float:
    return min(LEVEL_DBFS - _dbfs(powers), MAX_GAIN_DB)
