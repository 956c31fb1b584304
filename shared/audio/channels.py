"""Mixing the channels of a recording to one. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SILENT = 0.01
"""A channel at less than this share of the loudest one's level (-40 dB) has no signal: it is left out, so that it costs no level."""
CANCELS = 0.5
"""Independent channels of equal level mix to 0.71 of it, and equal ones to all of it. Less means that they cancel each other."""


def mixed(samples: Floats) -> Floats:
    """Return the mean of the channels [samples, channels] that have a signal.

    Where they cancel each other, as a signal and its inverse do, the loudest channel is returned.
    """
    if samples.shape[1] == 1 or not len(samples):
        return samples[:, 0]
    levels = np.sqrt(np.square(samples, dtype=np.float64).mean(axis=0))
    used = levels >= SILENT * levels.max()
    mean: Floats = samples[:, used].mean(axis=1, dtype=np.float32)
    if np.sqrt(np.square(mean, dtype=np.float64).mean()) < CANCELS * levels[used].mean():
        return samples[:, int(levels.argmax())]
    return mean
