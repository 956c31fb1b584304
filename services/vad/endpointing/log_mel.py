"""Whisper's log-mel features of 16 kHz audio, in numpy. Pure.

As `WhisperFeatureExtractor` of transformers computes them (Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision", 2022): frames of 25 ms every 10 ms, 80 bands of the Slaney mel scale with equal area, logarithms within 80 dB.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shared.protocol.session import RATE_HZ

BANDS = 80
FFT, HOP = 400, 160
_HERTZ_PER_MEL, _LINEAR_HZ, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27
"""The Slaney scale: linear up to 1 kHz, logarithmic above."""


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features [BANDS, frames] of samples of any level, which are normalised to mean 0 and variance 1.

    Args:
        samples: Mono, a whole number of hops.
    """
    audio = samples.astype(np.float64)
    audio = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    padded = np.pad(audio, FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP][: len(samples) // HOP]
    window = np.hanning(FFT + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    logarithms = np.log10(np.maximum(_filters() @ power.T, 1e-10))
    logarithms = np.maximum(logarithms, logarithms.max() - 8.0)
    features: NDArray[np.float32] = ((logarithms + 4.0) / 4.0).astype(np.float32)
    return features


@cache
def _filters() -> NDArray[np.float64]:
    """Return the triangular filters [BANDS, FFT // 2 + 1]."""
    highest = _LINEAR_HZ / _HERTZ_PER_MEL + math.log(RATE_HZ / 2 / _LINEAR_HZ) / _LOG_STEP
    edges = _hertz(np.linspace(0.0, highest, BANDS + 2))
    bins = np.linspace(0.0, RATE_HZ / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges[:-1])[:, None]
    falling = (edges[2:, None] - bins) / np.diff(edges[1:])[:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]
    return filters


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    corner = _LINEAR_HZ / _HERTZ_PER_MEL
    return np.where(mel < corner, mel * _HERTZ_PER_MEL, _LINEAR_HZ * np.exp(_LOG_STEP * (mel - corner)))
