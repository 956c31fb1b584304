"""A short falling tone: what a person hears where no words can be spoken. Pure."""

from functools import cache

import numpy as np

TONE_HZ = 16_000
"""Sample rate of the tone."""
_NOTES = ((480.0, 0.25), (360.0, 0.4))
"""Frequency in Hz and length in s: two notes down, as telephones announce that something does not work."""
_FADE_S = 0.02
_LEVEL = 0.14
"""Peak: -20 dBFS RMS, the level of all voices."""


@cache
def falling_tone() -> bytes:
    """Return the tone, s16le mono at `TONE_HZ`."""
    return b"".join(_note(hz, seconds) for hz, seconds in _NOTES)


def _note(hz: float, seconds: float) -> bytes:
    samples = np.arange(round(seconds * TONE_HZ))
    from_edge_s = np.minimum(samples, samples[::-1]) / TONE_HZ
    wave = _LEVEL * np.sin(2 * np.pi * hz / TONE_HZ * samples) * np.minimum(1.0, from_edge_s / _FADE_S)
    return bytes((wave * 32767).astype("<i2").tobytes())
