"""How long this speaker pauses within a turn: an estimate that runs along, and no model. Pure.

Mean and mean deviation of the pauses, smoothed as in RFC 6298 (Jacobson and Karels) with gains of 1/8 and 1/4. A pause that
lasted until the commit tells nothing of its length, but a turn without any pause tells that this speaker makes none.
"""

from collections.abc import Sequence

from shared.protocol.session import SessionSettings
from shared.settings import Settings

SHORTEST_MS, LONGEST_MS = 250, 1200
"""The wait stays within these."""
MEAN_GAIN, DEVIATION_GAIN = 1 / 8, 1 / 4
DEVIATIONS = 2.5
"""Waited beyond the mean. RFC 6298 takes 4: a packet that is sent again costs less than a person who is kept waiting."""
FLUENT_MS = 160.0
"""What a turn without a pause is taken to say: pauses shorter than this are none."""
LONGEST_PAUSE_MS = 2_000
"""A longer one is another thought."""


class PaceDetector:
    """See `endpointing.TurnDetector`."""

    audio_s = 0.0

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    def open(self) -> "PaceSpeaker":
        return PaceSpeaker()

    async def close(self) -> None:
        pass


class PaceSpeaker:
    """See `endpointing.Speaker`. Begins as patient as the session's constant."""

    def __init__(self) -> None:
        self._mean_ms = self._deviation_ms = 0.0
        self._known = False
        self._fluent = True
        self._owed = False  # a turn without a pause, unless it turns out to have been cut off

    def resumed(self, pause_ms: int) -> None:
        self._fluent = self._owed = False
        self._learn(min(pause_ms, LONGEST_PAUSE_MS))

    def committed(self, pause_ms: int) -> None:
        self._owed, self._fluent = self._fluent, True

    async def wait_ms(self, pcm: bytes, settings: SessionSettings) -> int:
        if not self._known:
            # So that the first wait is the constant, and the first pauses move it by little.
            self._known = True
            self._mean_ms = settings.endpoint_ms / 2
            self._deviation_ms = (settings.endpoint_ms - self._mean_ms) / DEVIATIONS
        if self._owed:
            self._owed = False
            self._learn(FLUENT_MS)
        return round(min(max(self._mean_ms + DEVIATIONS * self._deviation_ms, SHORTEST_MS), LONGEST_MS))

    def _learn(self, pause_ms: float) -> None:
        if self._known:
            self._deviation_ms += DEVIATION_GAIN * (abs(pause_ms - self._mean_ms) - self._deviation_ms)
            self._mean_ms += MEAN_GAIN * (pause_ms - self._mean_ms)

    def state(self) -> list[float]:
        return [self._mean_ms, self._deviation_ms, float(self._known), float(self._fluent), float(self._owed)]

    def restore(self, state: Sequence[float]) -> None:
        if len(state) == 5:  # else of another engine
            self._mean_ms, self._deviation_ms = state[:2]
            self._known, self._fluent, self._owed = map(bool, state[2:])
