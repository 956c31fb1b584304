"""The arithmetic of the callers: their positions in the cycle of a turn, and the check of received audio. Pure."""

from math import gcd

import numpy as np
import numpy.typing as npt

from shared.protocol.session import RATE_HZ

FRAME_MS = 20
FRAME_SAMPLES = RATE_HZ * FRAME_MS // 1000
RAMP_PERIOD = 32_768
"""The scripted voice numbers its samples with `i % 32768`, from 0 in each sentence."""


def spread(callers: int, cycle_frames: int) -> list[int]:
    """Frames by which each caller starts ahead in the cycle of a turn, in the order of the callers' phase.

    Neighbours in phase are far apart in the cycle, which spreads the load over the 20 ms of a frame and over the seconds of
    a turn.
    """
    step = max(1, round(callers * 0.618))
    while gcd(step, callers) != 1:
        step += 1
    return [(phase * step % callers) * cycle_frames // callers for phase in range(callers)]


class RampChecker:
    """Follows a reply of the scripted voice sample by sample, and counts missing and repeated samples."""

    def __init__(self, sentence_samples: int) -> None:
        self.sentence = sentence_samples
        self.index = 0
        """Index of the next expected sample of the reply."""
        self.lost = 0
        self.doubled = 0
        numbers = np.arange(sentence_samples) % RAMP_PERIOD
        self._ramp: npt.NDArray[np.int16] = numbers.astype("<i2")
        self._bytes = self._ramp.tobytes()

    def restart(self) -> None:
        self.index = 0

    def feed(self, pcm: bytes) -> None:
        """Take the next samples of the reply, s16le."""
        start = self.index % self.sentence
        if self._bytes[2 * start : 2 * start + len(pcm)] == pcm:
            self.index += len(pcm) // 2
            return
        samples = np.frombuffer(pcm, dtype="<i2")
        while samples.size:
            start = self.index % self.sentence
            expected = self._ramp[start : start + samples.size]
            same = samples[: expected.size] == expected
            good = int(same.size if same.all() else np.argmin(same))
            self.index += good
            samples = samples[good:]
            if good < same.size:
                self._resume_at(int(samples[0]))
                self.index += 1
                samples = samples[1:]

    def finish(self) -> None:
        """End the reply. Missing samples of its last sentence count as lost."""
        rest = -self.index % self.sentence
        self.lost += rest if self.index else self.sentence
        self.index = 0

    def _resume_at(self, value: int) -> None:
        # The same value occurs in every sentence and once per period: take the nearest position.
        base = self.index - self.index % self.sentence
        places = [
            base + sentence + within
            for sentence in (-self.sentence, 0, self.sentence)
            for within in range(value % RAMP_PERIOD, self.sentence, RAMP_PERIOD)
            if base + sentence >= 0
        ]
        if not places:  # not a value of the ramp: one wrong sample replaced the expected one
            self.lost += 1
            return
        place = min(places, key=lambda where: abs(where - self.index))
        if place > self.index:
            self.lost += place - self.index
        else:
            self.doubled += self.index - place
        self.index = place
