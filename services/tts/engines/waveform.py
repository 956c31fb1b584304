"""Post-process a model's waveform: trim silence, level the loudness, fade the edges, cut into slices. Pure."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.tts.engine import Speech
from shared.audio.loudness import BLOCK_MS, FLOOR_DB, block_powers, level
from shared.protocol.session import Word

Waveform = NDArray[np.float32]

SLICE_MS = 100
EDGE_MS = 20
"""Length of the fade before and after the speech."""

SENTENCE_PAUSE_MS, CLAUSE_PAUSE_MS, PHRASE_PAUSE_MS = 200, 90, 40
"""Silence at normal speed after a full stop, after a comma, and where a text was cut without punctuation."""

CLOSERS = " \"'\u2019\u201c\u201d\u00bb)]}\u300d\u300f\uff09"
WORDS = re.compile(r"[\u2e80-\u9fff]|[^\s\u2e80-\u9fff]+")
"""The words of a text. Chinese and Japanese have no spaces, so each character counts as a word."""
_SENTENCE_MARKS = frozenset(".!?\u2026\u0964\u0965\u061f\u06d4\u3002\uff01\uff1f")
_CLAUSE_MARKS = frozenset(",;:\u2013\u2014-\u060c\u061b\u3001\uff0c\uff1b\uff1a")


def pause_ms(text: str) -> int:
    """Return the natural pause after a text, by its last punctuation."""
    last = text.rstrip(CLOSERS)[-1:]
    if last in _SENTENCE_MARKS:
        return SENTENCE_PAUSE_MS
    return CLAUSE_PAUSE_MS if last in _CLAUSE_MARKS else PHRASE_PAUSE_MS


def active_span(wave: Waveform, rate_hz: int, loudest: float = 0.0) -> tuple[int, int]:
    """Return the first sample of the speech and one past the last; (0, 0) if the waveform is silent.

    `loudest` is the power of the loudest block of the same speech before this waveform.
    """
    block = rate_hz * BLOCK_MS // 1000
    powers = block_powers(wave, rate_hz)
    loud = np.flatnonzero(powers > max(powers.max(initial=loudest) * 10 ** (-FLOOR_DB / 10), 1e-9))
    if not len(loud):
        return 0, 0
    return int(loud[0]) * block, min(len(wave), (int(loud[-1]) + 1) * block)


class Trimmer:
    """Trims silence from both ends of a waveform that comes in chunks, and fades them."""

    def __init__(self, rate_hz: int, words: Sequence[Word] = ()) -> None:
        """`words`: those of the whole waveform, in order."""
        self._rate_hz = rate_hz
        self._edge = rate_hz * EDGE_MS // 1000
        self._words = deque(words)
        self._position = 0  # of the next chunk in the waveform
        self._loudest = 0.0  # power of a block
        self._begun = False

    def feed(self, chunk: Waveform, *, last: bool) -> tuple[Waveform, tuple[Word, ...]]:
        """Return the trimmed chunk, and the words that start in it, with their times in it.

        A word may end in a later chunk. A word that starts in the last chunk ends there.
        """
        chunk = np.nan_to_num(chunk)
        first, stop = active_span(chunk, self._rate_hz, self._loudest)
        self._loudest = float(block_powers(chunk, self._rate_hz).max(initial=self._loudest))
        start, end, begins = 0, len(chunk), not self._begun
        if begins:
            self._begun = stop > 0
            start = max(0, first - self._edge) if self._begun else len(chunk)
        if last:
            end = max(start, min(len(chunk), stop + self._edge))
        trimmed = chunk[start:end].copy()
        ramp = np.linspace(0, 1, min(self._edge, len(trimmed) // 2), endpoint=False, dtype=np.float32)
        if begins:
            trimmed[: len(ramp)] *= ramp
        if last:
            trimmed[len(trimmed) - len(ramp) :] *= ramp[::-1]
        words = self._take_words(self._position + start, len(trimmed), last=last) if self._begun or last else ()
        self._position += len(chunk)
        return trimmed, words

    def _take_words(self, before: int, samples: int, *, last: bool) -> tuple[Word, ...]:
        """Return the words of a trimmed chunk of `samples`, which begins at the sample `before` of the waveform."""
        taken = []
        while self._words and (last or self._words[0].start < before + samples):
            word = self._words.popleft()
            start, end = _within(word.start - before, samples), max(0, word.end - before)
            taken.append(replace(word, start=start, end=_within(end, samples) if last else end))
        return tuple(taken)


def pause(rate_hz: int, after_ms: float) -> Waveform:
    """Return the silence to append to trimmed speech, so that its pause is `after_ms` long."""
    return np.zeros(max(0, round(rate_hz * after_ms / 1000) - rate_hz * EDGE_MS // 1000), np.float32)


def shape(
    wave: Waveform, rate_hz: int, after_ms: float, words: Sequence[Word] = ()
) -> tuple[Waveform, tuple[Word, ...]]:
    """Trim, level and fade the speech, and append a pause of `after_ms`. Returns it with the moved words."""
    spoken, moved = Trimmer(rate_hz, words).feed(wave, last=True)
    return np.concatenate((level(spoken, rate_hz), pause(rate_hz, after_ms))), moved


def slices(wave: Waveform, rate_hz: int, words: Sequence[Word] = (), before: int = 0) -> Iterator[Speech]:
    """Cut a waveform into slices of `SLICE_MS`, each with the words that start in it.

    `before` is the number of samples of the sentence before this waveform; it is added to the times of the words.
    """
    pcm = (np.clip(wave, -1, 1) * 32_767).astype("<i2").tobytes()
    step = rate_hz * SLICE_MS // 1000
    for start in range(0, len(wave), step):
        here = [word for word in words if start <= word.start < start + step]
        moved = tuple(replace(word, start=before + word.start, end=before + word.end) for word in here)
        yield Speech(pcm[2 * start : 2 * (start + step)], moved)


def _within(sample: int, end: int) -> int:
    return min(max(sample, 0), max(end - 1, 0))
