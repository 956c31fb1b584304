"""Endpointing from the speaker's own pauses: a running estimate, without a model. Pure.

The wait is mean + 2.5 mean deviations of the pauses within turns, smoothed as in RFC 6298 (Jacobson and Karels) with
gains of 1/8 and 1/4. A pause that ends in a commit has an unknown length and is ignored. A turn without any pause
counts as a short one.
"""

from collections.abc import Sequence

from services.vad.endpointing.engine import Decision, FixedDetector, Pause
from shared.protocol.session import SessionSettings

SHORTEST_MS, LONGEST_MS = 250, 1200
"""Limits of the wait."""
MEAN_GAIN, DEVIATION_GAIN = 1 / 8, 1 / 4
DEVIATIONS = 2.5
"""RFC 6298 uses 4: a retransmitted packet costs less than keeping a person waiting."""
FLUENT_MS = 160.0
"""The pause length learned from a turn without a pause. Shorter silences are not pauses."""
LONGEST_PAUSE_MS = 2_000
"""Longer pauses are learned as this length."""


class PaceSpeaker:
    """See `endpointing.Speaker`. The first wait is the session's `endpoint_ms`."""

    def __init__(self) -> None:
        self._mean_ms = self._deviation_ms = 0.0
        self._initialised = False
        self._fluent = True  # the current turn has had no pause
        self._fluent_turn = False  # the previous turn had no pause; not learned yet, as it may have been cut off

    def resumed(self, pause_ms: int) -> None:
        self._fluent = self._fluent_turn = False
        self._learn(min(pause_ms, LONGEST_PAUSE_MS))

    def committed(self, pause_ms: int) -> None:
        self._fluent_turn, self._fluent = self._fluent, True

    async def decide(self, pause: Pause, settings: SessionSettings) -> Decision:
        if not self._initialised:
            # Small mean, large deviation: the first wait is `endpoint_ms`, and the first pauses change it little.
            self._initialised = True
            self._mean_ms = settings.endpoint_ms / 2
            self._deviation_ms = (settings.endpoint_ms - self._mean_ms) / DEVIATIONS
        if self._fluent_turn:
            self._fluent_turn = False
            self._learn(FLUENT_MS)
        return Decision(round(min(max(self._mean_ms + DEVIATIONS * self._deviation_ms, SHORTEST_MS), LONGEST_MS)))

    def _learn(self, pause_ms: float) -> None:
        if self._initialised:
            self._deviation_ms += DEVIATION_GAIN * (abs(pause_ms - self._mean_ms) - self._deviation_ms)
            self._mean_ms += MEAN_GAIN * (pause_ms - self._mean_ms)

    def state(self) -> list[float]:
        flags = (self._initialised, self._fluent, self._fluent_turn)
        return [self._mean_ms, self._deviation_ms, *map(float, flags)]

    def restore(self, state: Sequence[float]) -> None:
        if len(state) == 5:  # otherwise another engine wrote it
            self._mean_ms, self._deviation_ms = state[:2]
            self._initialised, self._fluent, self._fluent_turn = map(bool, state[2:])


class PaceDetector(FixedDetector):
    """Follows the pauses of each speaker."""

    def open(self) -> PaceSpeaker:
        return PaceSpeaker()
