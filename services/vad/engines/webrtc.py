"""The default detector: WebRTC's, corrected by the level above the noise floor.

WebRTC's detector alone takes any loud noise for speech, however long it lasts, and reports speech for 60 to 140 ms
after the end. So the probability grows with the level above the noise floor, and a nearly constant level is noise:
over 16 windows, the level of hiss, hum or a fan between about 0.5 and 2 kHz varies by less than 5 dB. Speech always
varied by more than 7 dB.
"""

from collections import deque
from collections.abc import Sequence
from math import log10

import numpy as np
import webrtcvad

from services.vad.engine import WINDOW_BYTES, WINDOW_SAMPLES
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

MODE = 1
"""WebRTC's aggressiveness, 0 to 3. From 2 on it misses up to a quarter of soft speech (peaks at -35 dBFS)."""

QUIETEST_DB = -75.0
"""The lowest level and noise floor. Everything below is silence, digital silence included."""
HALF_DB = 6.0
"""At this level above the noise floor the probability is 0.5; each further HALF_DB halves the rest to 1."""
FLOOR_BLOCK, FLOOR_BLOCKS = 25, 6
"""Windows in a block, and blocks kept: the floor is the lowest level of the last 2.5 to 3 s, in blocks of 0.5 s."""

STEADY_WINDOWS, STEADY_DB = 16, 5.0
"""A level that varies by less than this over this many windows is noise, and becomes the floor."""
EARLY_STEADY_WINDOWS, EARLY_STEADY_DB = 8, 3.5
"""The same while nobody speaks. A vowel can be as constant as this, but not at the beginning of speech."""
FLAT_WINDOWS, FLAT_VOICE_DB, FLAT_FULL_DB = 3, 3.2, 2.0
"""While nobody speaks, a level that varies by less than this in both bands is probably noise that has set in."""
EVEN_WINDOWS = 5
"""Windows compared at the last of ESTABLISHED_WINDOWS: a constant vowel after an onset is not noise."""

ESTABLISHED_WINDOWS = 5
"""Windows of speech in a row after which somebody is speaking."""
RELEASE_WINDOWS = 15
"""Windows without speech after which nobody is speaking."""
RANGE_DB = 32.0
"""A window this far below the loudest window of the speech is reverberation or breath."""

# Levels are in dB relative to a full-scale square wave, in two bands. "Full" is the first difference of the samples:
# it removes rumble and hum and keeps sibilants. "Voice" is the difference of sums of four samples: it keeps the band
# of the vowels, where a voice stands out from hiss.
_DECIMATE = 4
_SUM = np.ones(_DECIMATE, np.float32)
_FULL_OFFSET_DB = 10 * log10(WINDOW_SAMPLES * 32768.0**2)
_VOICE_OFFSET_DB = 10 * log10(WINDOW_SAMPLES / _DECIMATE * (_DECIMATE * 32768.0) ** 2)


class WebRtcDetector:
    """See `engine.SpeechDetector`."""

    blocking = False

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        self.open().probability(bytes(WINDOW_BYTES))

    def open(self) -> "WebRtcState":
        return WebRtcState()

    def judge(self, batch: Sequence[tuple["WebRtcState", bytes]]) -> list[list[float]]:
        return [
            [state.probability(pcm[at : at + WINDOW_BYTES]) for at in range(0, len(pcm), WINDOW_BYTES)]
            for state, pcm in batch
        ]

    async def close(self) -> None:
        pass


class _NoiseFloor:
    """The noise floor of one band, in dB."""

    __slots__ = ("_minima", "level")

    def __init__(self) -> None:
        self.level = 0.0
        self._minima: deque[float] = deque(maxlen=FLOOR_BLOCKS)

    def follow(self, level: float, *, new_block: bool) -> None:
        if new_block or not self._minima:
            self._minima.append(level)
            self.level = min(self._minima)
        elif level < self._minima[-1]:
            self._minima[-1] = level
            self.level = min(self.level, level)

    def set(self, level: float) -> None:
        self._minima.clear()
        self._minima.append(level)
        self.level = level


class WebRtcState:
    """What the detector remembers of one session. Takes consecutive windows."""

    __slots__ = (
        "_full",
        "_full_floor",
        "_is_speech",
        "_peak",
        "_quiet",
        "_speech",
        "_voice",
        "_voice_floor",
        "_window",
    )

    def __init__(self) -> None:
        self._is_speech = webrtcvad.Vad(MODE).is_speech
        self._voice: deque[float] = deque(maxlen=STEADY_WINDOWS)
        self._full: deque[float] = deque(maxlen=STEADY_WINDOWS)
        self._voice_floor, self._full_floor = _NoiseFloor(), _NoiseFloor()
        self._window = 0
        self._speech = 0  # consecutive windows of speech
        self._quiet = RELEASE_WINDOWS  # windows since somebody was speaking
        self._peak = QUIETEST_DB  # level of the loudest window of the current speech

    def probability(self, window: bytes) -> float:
        """Return the speech probability of the next window; below 0.5 where WebRTC's detector finds no speech.

        Raises:
            ValueError: the window is not 20 ms long.
        """
        if len(window) != WINDOW_BYTES:
            raise ValueError(f"a window has {WINDOW_BYTES} bytes, got {len(window)}")
        voiced = self._is_speech(window, RATE_HZ)
        voice, full = _levels(window)
        self._voice.append(voice)
        self._full.append(full)
        idle = self._quiet >= RELEASE_WINDOWS
        if idle:
            self._peak = QUIETEST_DB
        steady = self._follow_floor(voice, full, idle=idle)
        faint = max(voice, full) < self._peak - RANGE_DB
        margin = max(voice - self._voice_floor.level, full - self._full_floor.level, 0.0)
        probability: float = 1.0 - 0.5 ** (margin / HALF_DB)
        if not voiced or steady or faint or (idle and self._is_flat()):
            probability *= 0.5
        if probability >= 0.5:
            self._speech += 1
            self._peak = max(self._peak, voice, full)
            if self._speech >= ESTABLISHED_WINDOWS:
                self._quiet = 0
        else:
            self._speech = 0
            self._quiet += 1
        return probability

    def _follow_floor(self, voice: float, full: float, *, idle: bool) -> bool:
        """Update the noise floors. Returns whether the level is that of steady noise."""
        recent = self._voice
        steady = len(recent) == STEADY_WINDOWS and max(recent) - min(recent) < STEADY_DB
        windows = STEADY_WINDOWS
        if not steady and idle and len(recent) >= EARLY_STEADY_WINDOWS:
            windows = EARLY_STEADY_WINDOWS
            last = list(recent)[-windows:]
            steady = max(last) - min(last) < EARLY_STEADY_DB
        if steady:
            self._voice_floor.set(sum(list(recent)[-windows:]) / windows)
            self._full_floor.set(sum(list(self._full)[-windows:]) / windows)
            self._quiet = RELEASE_WINDOWS
            self._window = 0
            return True
        self._window += 1
        new_block = self._window % FLOOR_BLOCK == 0
        self._voice_floor.follow(voice, new_block=new_block)
        self._full_floor.follow(full, new_block=new_block)
        return False

    def _is_flat(self) -> bool:
        """Whether the level hardly varies in both bands: noise that has set in."""
        windows = FLAT_WINDOWS if self._speech < ESTABLISHED_WINDOWS - 1 else EVEN_WINDOWS
        if len(self._full) < windows:
            return False
        full = list(self._full)[-windows:]
        if max(full) - min(full) >= FLAT_FULL_DB:
            return False
        voice = list(self._voice)[-windows:]
        return max(voice) - min(voice) < FLAT_VOICE_DB


def _levels(window: bytes) -> tuple[float, float]:
    """Return the levels of a window in the voice band and in the full band, in dB."""
    samples = np.frombuffer(window, np.int16).astype(np.float32)
    steps = samples[1:] - samples[:-1]
    slow = samples.reshape(-1, _DECIMATE) @ _SUM
    slow_steps = slow[1:] - slow[:-1]
    voice = 10 * log10(float(slow_steps @ slow_steps) + 1.0) - _VOICE_OFFSET_DB
    full = 10 * log10(float(steps @ steps) + 1.0) - _FULL_OFFSET_DB
    return max(voice, QUIETEST_DB), max(full, QUIETEST_DB)
