"""What keeps a recogniser that writes from inventing text: is anybody speaking, was it sure, does it go round in circles. Pure."""

import re

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from shared.session import RATE_HZ

Samples = NDArray[np.float32]

VOICED_MS = 100
"""Less voice than this in an utterance is no word."""

NO_SPEECH, UNSURE = 0.6, -1.0
"""Whisper's own thresholds (OpenAI, `transcribe.py`): probability of no speech, mean log-probability of the words."""

LOOPS = 4
"""So many times the same words in a row are a loop: nobody says "thank you thank you thank you thank you"."""

MOST_WORDS_PER_S = 9.0
"""The fastest talkers say six or seven."""

_WINDOW = RATE_HZ // 50
_WORD = re.compile(r"\S+")


def has_voice(pcm: bytes) -> bool:
    """Whether at least `VOICED_MS` of the audio (s16le, 16 kHz) sound like a voice."""
    detector = webrtcvad.Vad(2)
    needed = VOICED_MS // 20
    for start in range(0, len(pcm) - 2 * _WINDOW + 1, 2 * _WINDOW):
        if detector.is_speech(pcm[start : start + 2 * _WINDOW], RATE_HZ):
            needed -= 1
            if not needed:
                return True
    return False


def is_invented(no_speech: float | None, confidence: float | None) -> bool:
    """Whether the model says itself that there was nobody, and was not sure of what it wrote."""
    return no_speech is not None and confidence is not None and no_speech > NO_SPEECH and confidence < UNSURE


def without_loops(text: str) -> str:
    """The text up to where it begins to repeat itself, the repeated words once."""
    words = _WORD.findall(text)
    keys = [re.sub(r"\W", "", word).lower() or word for word in words]
    for start in range(len(keys)):
        for length in range(1, (len(keys) - start) // LOOPS + 1):
            unit = keys[start : start + length]
            if all(keys[start + length * turn : start + length * (turn + 1)] == unit for turn in range(1, LOOPS)):
                return " ".join(words[: start + length])
    return text


def is_too_much(text: str, seconds: float) -> bool:
    """Whether these are more words than anybody says in that time."""
    return len(_WORD.findall(text)) > MOST_WORDS_PER_S * seconds + 3
