"""What F5 is given: a reference made ready, a text in pieces, and the length that each piece is to have. Pure.

The formulas are those of the authors' package (f5-tts 1.1.22, `infer/utils_infer.py`, MIT): a piece is as long as the
reference would be with as many bytes of text.
"""

import math
import re

import numpy as np
import soxr

from services.tts.engines.waveform import Waveform, active_span
from shared.audio.voices import ClonedVoice
from shared.protocol.session import Word

RATE_HZ = 24_000
HOP = 256
"""Samples of one frame of a spectrogram."""
LEAST_RMS = 0.1
"""A softer reference is made as loud as this."""
AFTER_S = 0.05
"""Silence after the reference, so that its last sound does not run into the text."""
LONGEST_S, WHOLE_S, LEAST_S = 12.0, 22.0, 4.0
"""A piece is no longer than the first, nor reference and piece together than the second, as far as the third allows."""
FEWEST_BYTES = 20
SHORT_BYTES, SHORT_SPEED = 10, 0.3
"""A text as short as "Yes." is given more time than its bytes, or it is swallowed."""
SLOWEST, FASTEST = 0.5, 2.0

# Where a long text is cut, the best place first.
_CUTS = (
    re.compile(r"[.!?\u2026][\"'\u201d\u2019)]*\s|[\u3002\uff01\uff1f]"),
    re.compile(r"[,;:]\s|\s[\u2013\u2014-]\s|[\uff0c\uff1b\uff1a\u3001]"),
    re.compile(r"\s"),
)
# Chinese has no blanks: there each character counts as a word.
_WORDS = re.compile(r"[\u2e80-\u9fff]|[^\s\u2e80-\u9fff]+")
_ENDS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")


def reference_samples(voice: ClonedVoice) -> Waveform:
    """The recording as the model is to hear it: 24 kHz, no silence around it, loud enough, 50 ms of silence after it.

    Raises:
        ValueError: there is nothing to hear in it.
    """
    samples = voice.samples()
    if voice.info.rate_hz != RATE_HZ:
        samples = soxr.resample(samples, voice.info.rate_hz, RATE_HZ, quality="HQ").astype(np.float32, copy=False)
    start, end = active_span(samples, RATE_HZ)
    if start == end:
        raise ValueError(f"the recording of the voice {voice.name!r} is silent")
    heard = np.concatenate((samples[start:end], np.zeros(round(AFTER_S * RATE_HZ), np.float32)))
    rms = float(np.sqrt(np.mean(np.square(heard, dtype=np.float64))))
    return heard * np.float32(max(1.0, LEAST_RMS / rms))


def reference_text(text: str) -> str:
    """What is said in the recording, as a sentence that another can follow."""
    said = text.strip()
    if not said.endswith(_ENDS):
        said += "."
    return said + " " if said[-1].isascii() else said


def piece_frames(reference_frames: int, reference: str, text: str, speed: float) -> int:
    """How many frames a piece is given."""
    size = len(text.encode())
    if size < SHORT_BYTES:
        speed *= SHORT_SPEED
    return max(1, int(reference_frames / len(reference.encode()) * size / speed))


def most_bytes(reference_frames: int, reference: str, speed: float) -> int:
    """How much text a piece may have."""
    reference_s = reference_frames * HOP / RATE_HZ
    piece_s = max(LEAST_S, min(LONGEST_S, WHOLE_S - reference_s))
    return max(FEWEST_BYTES, int(len(reference.encode()) / reference_s * piece_s * speed))


def pieces(text: str, most: int) -> list[str]:
    """The text in parts of at most `most` bytes and of like length, cut where people pause; none of a text without words."""
    rest = " ".join(text.split())
    if not any(character.isalnum() for character in rest):
        return []
    found = []
    while (size := len(rest.encode())) > most:
        room = min(most, math.ceil(1.4 * size / math.ceil(size / most)))
        end = _cut(rest, room)
        found.append(rest[:end].strip())
        rest = rest[end:].strip()
    return [part for part in (*found, rest) if any(character.isalnum() for character in part)]


def _cut(text: str, room: int) -> int:
    """How many characters to take: at a good place in the second half of what there is room for, if there is one."""
    longest = max(1, len(text.encode()[:room].decode(errors="ignore")))
    for place in _CUTS:
        ends = [match.end() for match in place.finditer(text, 0, longest)]
        if ends and ends[-1] > longest // 2:
            return ends[-1]
    return longest


def spread(text: str, start: int, end: int) -> tuple[Word, ...]:
    """When each word probably sounds, if the text is spoken from one sample to another: in proportion to its bytes."""
    words = _WORDS.findall(text)
    sizes = np.cumsum([0, *(len(word.encode()) + 1 for word in words)])
    marks = [start + int((end - start) * size // sizes[-1]) for size in sizes]
    return tuple(Word(word, marks[index], marks[index + 1]) for index, word in enumerate(words))
