"""The inputs of F5: the prepared reference, the text in pieces, and the length of each piece. Pure.

The formulas are from the authors' package (f5-tts 1.1.22, `infer/utils_infer.py`, MIT): the speech of a piece has as
many frames per byte of text as the reference.
"""

import math
import re

import numpy as np
import soxr

from services.tts.engines.waveform import WORDS, Waveform, active_span
from shared.audio.voices import ClonedVoice
from shared.protocol.session import Word

RATE_HZ = 24_000
HOP = 256
"""Samples per frame of a spectrogram."""
MIN_RMS = 0.1
"""A quieter reference is amplified to this level."""
AFTER_S = 0.05
"""Silence after the reference, so that its last sound does not run into the text."""
MAX_PIECE_S, MAX_TOTAL_S = 12.0, 22.0
"""Limits for a piece, and for reference and piece together."""
MIN_PIECE_S = 4.0
"""With a long reference a piece may still have this length."""
MIN_BYTES = 20
SHORT_BYTES, SHORT_SPEED = 10, 0.3
"""A text shorter than this ("Yes.") is slowed down by this factor; otherwise the model swallows it."""
SLOWEST, FASTEST = 0.5, 2.0

# Where to cut a long text, in order of preference.
_CUTS = (
    re.compile(r"[.!?\u2026][\"'\u201d\u2019)]*\s|[\u3002\uff01\uff1f]"),
    re.compile(r"[,;:]\s|\s[\u2013\u2014-]\s|[\uff0c\uff1b\uff1a\u3001]"),
    re.compile(r"\s"),
)
_ENDS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")


def reference_samples(voice: ClonedVoice) -> Waveform:
    """Prepare the recording of a voice: resample to 24 kHz, trim silence, amplify, append 50 ms of silence.

    Raises:
        ValueError: the recording is silent.
    """
    samples = voice.samples()
    if voice.info.rate_hz != RATE_HZ:
        samples = soxr.resample(samples, voice.info.rate_hz, RATE_HZ, quality="HQ").astype(np.float32, copy=False)
    start, end = active_span(samples, RATE_HZ)
    if start == end:
        raise ValueError(f"the recording of the voice {voice.name!r} is silent")
    prepared = np.concatenate((samples[start:end], np.zeros(round(AFTER_S * RATE_HZ), np.float32)))
    rms = float(np.sqrt(np.mean(np.square(prepared, dtype=np.float64))))
    return prepared * np.float32(max(1.0, MIN_RMS / rms))


def reference_text(text: str) -> str:
    """Return the transcript as a complete sentence, so that the text can follow it."""
    sentence = text.strip()
    if not sentence.endswith(_ENDS):
        sentence += "."
    return sentence + " " if sentence[-1].isascii() else sentence


def piece_frames(reference_frames: int, reference: str, text: str, speed: float) -> int:
    size = len(text.encode())
    if size < SHORT_BYTES:
        speed *= SHORT_SPEED
    return max(1, int(reference_frames / len(reference.encode()) * size / speed))


def max_bytes(reference_frames: int, reference: str, speed: float) -> int:
    """Return the maximum length of a piece's text in bytes."""
    reference_s = reference_frames * HOP / RATE_HZ
    piece_s = max(MIN_PIECE_S, min(MAX_PIECE_S, MAX_TOTAL_S - reference_s))
    return max(MIN_BYTES, int(len(reference.encode()) / reference_s * piece_s * speed))


def pieces(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` bytes and similar length, preferably at punctuation. Pieces without
    words are dropped.
    """
    rest = " ".join(text.split())
    if not any(character.isalnum() for character in rest):
        return []
    found = []
    while (size := len(rest.encode())) > limit:
        room = min(limit, math.ceil(1.4 * size / math.ceil(size / limit)))
        end = _cut(rest, room)
        found.append(rest[:end].strip())
        rest = rest[end:].strip()
    return [part for part in (*found, rest) if any(character.isalnum() for character in part)]


def _cut(text: str, room: int) -> int:
    """Return how many characters to take: up to the best cut in the second half of `room` bytes, else all."""
    longest = max(1, len(text.encode()[:room].decode(errors="ignore")))
    for place in _CUTS:
        ends = [match.end() for match in place.finditer(text, 0, longest)]
        if ends and ends[-1] > longest // 2:
            return ends[-1]
    return longest


def estimated_words(text: str, start: int, end: int) -> tuple[Word, ...]:
    """Estimate the word times of a text spoken from sample `start` to `end`, in proportion to the words' bytes."""
    words = WORDS.findall(text)
    sizes = np.cumsum([0, *(len(word.encode()) + 1 for word in words)])
    marks = [start + int((end - start) * size // sizes[-1]) for size in sizes]
    return tuple(Word(word, marks[index], marks[index + 1]) for index, word in enumerate(words))
