"""What keeps a recogniser that writes from inventing text: is anybody speaking, was it sure, does it go round in circles. Pure."""

import re

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from shared.protocol.session import RATE_HZ

Samples = NDArray[np.float32]

VOICED_MS = 100
"""Less voice than this in an utterance is no word."""

NO_SPEECH, UNSURE = 0.6, -1.0
"""Whisper's own thresholds (OpenAI, `transcribe.py`): probability of no speech, mean log-probability of the words."""

LOOPS = 4
"""So many times the same words in a row are a loop: nobody says "thank you thank you thank you thank you"."""

MOST_WORDS_PER_S = 9.0
"""The fastest talkers say six or seven."""

HISS = 0.6
"""Flatness of the mean spectrum (geometric by arithmetic mean) from which there is nothing but hiss: it has 0.9, vowels 0.1."""

HUM = 0.9
"""Part of the power outside the band of voices from which there is nothing but hum."""

_WINDOW_BYTES = 2 * RATE_HZ // 50
_BAND = slice(200 // 50, 4_000 // 50)  # bins of 50 Hz; below 200 Hz, the window smears a hum of 100 or 120 Hz
_HANN = np.hanning(_WINDOW_BYTES // 2).astype(np.float32)
_WORD = re.compile(r"\S+")


class Voice:
    """Whether what was heard so far sounds like a voice; s16le, 16 kHz, in pieces of any length."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(2)
        self._rest = b""
        self._windows: list[bytes] = []  # that the detector takes for speech
        self.heard = False
        """Whether at least `VOICED_MS` of it did."""

    def hear(self, pcm: bytes) -> None:
        if self.heard:
            return
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % _WINDOW_BYTES
        for start in range(0, whole, _WINDOW_BYTES):
            window = pcm[start : start + _WINDOW_BYTES]
            if self._detector.is_speech(window, RATE_HZ):
                self._windows.append(window)
            if len(self._windows) == VOICED_MS // 20:
                if _is_voiced(b"".join(self._windows)):
                    self.heard, self._windows = True, []
                    return
                self._windows.clear()
        self._rest = pcm[whole:]


def _is_voiced(pcm: bytes) -> bool:
    """Whether windows that a detector takes for speech are neither hiss nor mains hum, which it takes for speech too."""
    windows = np.frombuffer(pcm, "<i2").astype(np.float32).reshape(-1, _WINDOW_BYTES // 2) * _HANN
    power = np.square(np.abs(np.fft.rfft(windows))).mean(axis=0) + 1e-9
    band = power[_BAND]
    flatness = np.exp(np.log(band).mean()) / band.mean()
    return bool(flatness < HISS and band.sum() > (1 - HUM) * power.sum())


def has_voice(pcm: bytes) -> bool:
    """Whether at least `VOICED_MS` of the audio (s16le, 16 kHz) sound like a voice."""
    voice = Voice()
    voice.hear(pcm)
    return voice.heard


def is_invented(no_speech: float | None, confidence: float | None) -> bool:
    """Whether the model says itself that there was nobody, and was not sure of what it wrote."""
    return no_speech is not None and confidence is not None and no_speech > NO_SPEECH and confidence < UNSURE


def without_loops(text: str) -> str:
    """The text up to where it begins to repeat itself, the repeated words once."""
    words = _WORD.findall(text)
    keys = [re.sub(r"\W", "", word).lower() or word for word in words]
    for start in range(len(keys)):
        for length in range(1, (len(keys) - start) // LOOPS + 1):
            if keys[start] != keys[start + length]:
                continue
            unit = keys[start : start + length]
            if all(keys[start + length * turn : start + length * (turn + 1)] == unit for turn in range(1, LOOPS)):
                return " ".join(words[: start + length])
    return text


def is_too_much(text: str, seconds: float) -> bool:
    """Whether these are more words than anybody says in that time."""
    return len(_WORD.findall(text)) > MOST_WORDS_PER_S * seconds + 3
