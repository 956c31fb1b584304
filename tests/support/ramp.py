"""The checker of a ramp: whether a client received each sample of a reply exactly once and in order.

Scripted voices number the samples of each sentence. A client at another rate, or of another encoding, receives what the
edge's own resampler makes of them: the expected audio goes the same way, and then every byte has to be the same.
"""

from collections.abc import Sequence

import numpy as np

from shared.audio.pcm import Resampler

RAMP_HZ = 16_000


def at_rate(ramp: Sequence[int], rate_hz: int) -> bytes:
    """The ramp as a client at this rate receives it, s16le."""
    pcm = np.asarray(ramp, "<i2").tobytes()
    if rate_hz == RAMP_HZ:
        return pcm
    resampler = Resampler(RAMP_HZ, rate_hz)
    return resampler.process(pcm) + resampler.flush()


def assert_exact(received: bytes, ramp: Sequence[int], rate_hz: int = RAMP_HZ, *, whole: bool = True) -> None:
    """Fail unless these samples were received, each once and in order; without `whole`, only the first of them.

    Raises:
        AssertionError: says where samples are missing, doubled or out of order, and how many.
    """
    expected = np.frombuffer(at_rate(ramp, rate_hz), "<i2")
    found = np.frombuffer(received, "<i2")
    length = min(expected.size, found.size)
    differing = np.flatnonzero(expected[:length] != found[:length])
    if differing.size:
        at = int(differing[0])
        raise AssertionError(
            f"sample {at} of {expected.size} is {found[at]}, not {expected[at]}: {_fault(expected, found, at)}"
        )
    if found.size > expected.size:
        raise AssertionError(f"{found.size - expected.size} samples after the last one")
    if whole and found.size < expected.size:
        raise AssertionError(f"the last {expected.size - found.size} of {expected.size} samples are missing")


def _fault(expected: np.ndarray, found: np.ndarray, at: int) -> str:
    """What happened at the first sample that differs, judged by where the audio goes on."""
    piece = found[at : at + 64]
    places = [
        place
        for place in range(expected.size - piece.size + 1)
        if np.array_equal(expected[place : place + piece.size], piece)
    ]
    if not places:
        return "it goes on nowhere in the reply"
    place = min(places, key=lambda one: abs(one - at))
    return f"{place - at} samples are missing" if place > at else f"{at - place} samples came twice"
