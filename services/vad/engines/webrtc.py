"""The embedded ear: WebRTC's detector, and beside it a guard that knows the level of the room.

WebRTC's detector alone takes any loud noise for speech, for good, and goes on saying "speech" for 60 to 140 ms after
the end. So a window counts only as far as it stands out from the noise floor, and a level that hardly moves is noise:
over 16 windows, the level of hiss, hum or a fan between about 0.5 and 2 kHz stays within 5 dB; that of speech was
never seen to move less than 7 dB.
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
"""WebRTC's aggressiveness, 0 to 3; from 2 on it misses up to a quarter of soft speech (peaks at -35 dBFS)."""

QUIETEST_DB = -75.0
"""The floor never goes below: what is softer is silence, digital silence included."""
HALF_DB = 6.0
"""A window so far above the floor is as likely speech as not; each further HALF_DB halves the doubt."""
FLOOR_BLOCK, FLOOR_BLOCKS = 25, 6
"""The floor is the lowest level of the last 2.5 to 3 s, kept as the minima of blocks of 0.5 s."""

STEADY_WINDOWS, STEADY_DB = 16, 5.0
"""What moves less in so many windows is noise, and is the floor from then on."""
EARLY_STEADY_WINDOWS, EARLY_STEADY_DB = 8, 3.5
"""The same while nobody speaks: a vowel may be as even as that, but not the first thing that is heard."""
FLAT_WINDOWS, FLAT_VOICE_DB, FLAT_FULL_DB = 3, 3.2, 2.0
"""While nobody speaks, what moves less in both bands is doubted: noise that sets in does not begin a turn."""
EVEN_WINDOWS = 5
"""The same for the last window of ESTABLISHED_WINDOWS: an even vowel after an uneven start is none of that."""

ESTABLISHED_WINDOWS = 5
"""So many windows of speech in a row: somebody speaks."""
RELEASE_WINDOWS = 15
"""So many windows without: nobody does."""
RANGE_DB = 32.0
"""What is so far below the loudest of the speech is its echo in the room, or breath."""

# A window's level is taken twice, in dB relative to a full-scale square wave. The first difference of the samples
# takes rumble and hum away and keeps sibilants; sums of four samples, differenced, leave the band of the vowels,
# where a voice stands out of hiss.
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

    def open(self) -> "WebRtcStream":
        return WebRtcStream()

    def judge(self, batch: Sequence[tuple["WebRtcStream", bytes]]) -> list[list[float]]:
        return [
            [ear.probability(pcm[at : at + WINDOW_BYTES]) for at in range(0, len(pcm), WINDOW_BYTES)]
            for ear, pcm in batch
        ]

    async def close(self) -> None:
        pass


class _Floor:
    """The level of what is always there, in one band."""

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


class WebRtcStream:
    """One session's ear, fed with consecutive windows."""

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
        self._voice_floor, self._full_floor = _Floor(), _Floor()
        self._window = 0
        self._speech = 0  # windows of speech in a row
        self._quiet = RELEASE_WINDOWS  # windows since somebody spoke
        self._peak = QUIETEST_DB  # the loudest window since somebody speaks

    def probability(self, window: bytes) -> float:
        """The probability that it holds speech: 0.5 at HALF_DB above the floor, and always less where WebRTC hears no speech.

        Raises:
            ValueError: the window is not 20 ms long.
        """
        if len(window) != WINDOW_BYTES:
            raise ValueError(f"a window has {WINDOW_BYTES} bytes, not {len(window)}")
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
        """Returns whether this is steady noise."""
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
        windows = FLAT_WINDOWS if self._speech < ESTABLISHED_WINDOWS - 1 else EVEN_WINDOWS
        if len(self._full) < windows:
            return False
        full = list(self._full)[-windows:]
        if max(full) - min(full) >= FLAT_FULL_DB:
            return False
        voice = list(self._voice)[-windows:]
        return max(voice) - min(voice) < FLAT_VOICE_DB


def _levels(window: bytes) -> tuple[float, float]:
    """The levels of a window in the band of the vowels and over all, in dB."""
    samples = np.frombuffer(window, np.int16).astype(np.float32)
    steps = samples[1:] - samples[:-1]
    slow = samples.reshape(-1, _DECIMATE) @ _SUM
    slow_steps = slow[1:] - slow[:-1]
    voice = 10 * log10(float(slow_steps @ slow_steps) + 1.0) - _VOICE_OFFSET_DB
    full = 10 * log10(float(steps @ steps) + 1.0) - _FULL_OFFSET_DB
    return max(voice, QUIETEST_DB), max(full, QUIETEST_DB)
