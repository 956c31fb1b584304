"""Guards against hallucinated text: is there a voice, was the model confident, does the text repeat itself. Pure."""

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import webrtcvad

from services.asr.engines.model import Recognition
from shared.protocol.session import RATE_HZ

VOICED_MS = 100
"""An utterance with less voice than this has no words."""

NO_SPEECH, UNSURE = 0.6, -1.0
"""Whisper's own thresholds (OpenAI, `transcribe.py`): probability of no speech, mean log-probability of the tokens."""

MURMUR_S, MURMUR = 0.8, -0.75
"""A voice that is not longer than this, and a text that is less sure (mean log-probability), are a murmur. Whisper tiny.en writes
"mm-hmm" as "Remember." with -1.6 and "hmm" as "Home." with -0.85, and is surer of nine in ten short words."""

LOOPS = 4
"""Repetitions that make a loop. Nobody says "thank you thank you thank you thank you"."""

MAX_WORDS_PER_S = 9.0
"""The fastest speakers say six or seven words a second."""

HISS = 0.6
"""Spectral flatness (geometric by arithmetic mean of the power) from which audio is noise: hiss has 0.9, vowels 0.1."""

HUM = 0.9
"""Share of the power outside the voice band from which audio is mains hum."""

_WINDOW_BYTES = 2 * RATE_HZ // 50
_VOICE_BAND = slice(200 // 50, 4_000 // 50)  # bins of 50 Hz; the window smears a hum of 100 or 120 Hz up to 200 Hz
_HANN = np.hanning(_WINDOW_BYTES // 2).astype(np.float32)
_WORD = re.compile(r"\S+")


class _Windows:
    """Cuts s16le at 16 kHz, in pieces of any length, into the windows of WebRTC's detector."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, pcm: bytes) -> list[bytes]:
        """Return the windows that this piece completes."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % _WINDOW_BYTES
        self._rest = pcm[whole:]
        return [pcm[start : start + _WINDOW_BYTES] for start in range(0, whole, _WINDOW_BYTES)]


class VoiceGate:
    """Detects whether an utterance contains a voice. Takes s16le at 16 kHz in pieces of any length."""

    def __init__(self) -> None:
        self._detector, self._windows = webrtcvad.Vad(2), _Windows()
        self._voiced: list[bytes] = []  # windows that WebRTC's detector takes for speech
        self.is_open = False
        """Whether at least `VOICED_MS` of the audio was a voice."""

    def add(self, pcm: bytes) -> None:
        if self.is_open:
            return
        for window in self._windows.add(pcm):
            if self._detector.is_speech(window, RATE_HZ):
                self._voiced.append(window)
            if len(self._voiced) == VOICED_MS // 20:
                if _is_voice(b"".join(self._voiced)):
                    self.is_open, self._voiced = True, []
                    return
                self._voiced.clear()


class VoiceEnd:
    """Finds where the voice ended. Takes s16le at 16 kHz in pieces of any length."""

    def __init__(self) -> None:
        self._detector, self._windows = webrtcvad.Vad(3), _Windows()  # the mode that ends soonest after a word
        self._heard = 0
        self.position = 0
        """Bytes up to the end of the last window with voice."""

    def add(self, pcm: bytes) -> None:
        for window in self._windows.add(pcm):
            self._heard += _WINDOW_BYTES
            if self._detector.is_speech(window, RATE_HZ):
                self.position = self._heard


def _is_voice(pcm: bytes) -> bool:
    """Whether whole windows are neither hiss nor mains hum. WebRTC's detector takes both for speech."""
    windows = np.frombuffer(pcm, "<i2").astype(np.float32).reshape(-1, _WINDOW_BYTES // 2) * _HANN
    power = np.square(np.abs(np.fft.rfft(windows))).mean(axis=0) + 1e-9
    band = power[_VOICE_BAND]
    flatness = np.exp(np.log(band).mean()) / band.mean()
    return bool(flatness < HISS and band.sum() > (1 - HUM) * power.sum())


def has_voice(pcm: bytes) -> bool:
    """Whether at least `VOICED_MS` of the audio (s16le, 16 kHz) is a voice."""
    gate = VoiceGate()
    gate.add(pcm)
    return gate.is_open


def is_no_speech(no_speech: float | None, confidence: float | None) -> bool:
    """Whether the model itself reports that there was no speech and that it is unsure of the text."""
    return no_speech is not None and confidence is not None and no_speech > NO_SPEECH and confidence < UNSURE


def is_murmur(seconds: float, confidence: float | None) -> bool:
    """Whether a voice of this length sounds like somebody who listens, as its text is a guess."""
    return seconds <= MURMUR_S and confidence is not None and confidence < MURMUR


def without_loops(text: str) -> str:
    """Return the text up to where it begins to repeat itself, with the repeated words once."""
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


def is_too_fast(text: str, seconds: float) -> bool:
    """Whether the text has more words than anybody can say in this time."""
    return len(_WORD.findall(text)) > MAX_WORDS_PER_S * seconds + 3


def without_hallucinations(recognition: Recognition, seconds: float) -> Recognition:
    """Return an offline model's result for a clip of this length, without hallucinated text."""
    text = without_loops(recognition.text)
    if (
        is_no_speech(recognition.no_speech, recognition.confidence)
        or is_too_fast(text, seconds)
        or not any(map(str.isalnum, text))  # Whisper hears a full stop in silence
    ):
        text = ""
    if text == recognition.text:
        return recognition
    return replace(recognition, text=text, words=recognition.words[: len(text.split())])


def streamed_without_hallucinations(text: str, seconds: float) -> str:
    """Return the text that a streaming model wrote for this much audio, without hallucinated text.

    A loop is cut only at the end of the text. Other words after it show that it was spoken: "no, no, no, no, not this".
    """
    words, kept = text.split(), without_loops(text).split()
    if _bare(words[len(kept) :]) <= _bare(kept):
        text = " ".join(kept)
    return "" if is_too_fast(text, seconds) else text


def _bare(words: Iterable[str]) -> set[str]:
    """Return the set of the words, without case and punctuation."""
    return {"".join(filter(str.isalnum, word.casefold())) for word in words} - {""}
