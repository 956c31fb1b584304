"""How busy a stage will be with one more session: from how busy the sessions of the last half minute kept it. Pure.

A session uses a stage in bursts: a slot of the chat model for 2 of 10 s, say. Whether slots are free at this moment tells little
about the next minute, and a session that has just begun uses none yet. So the mean number of busy slots for each session is
measured, and multiplied with the number of sessions that there would be.
"""

import math

MEMORY_S = 20.0
"""Readings count less and less: those of this age by a factor of 1/e."""
PRIOR_SLOTS = 0.2
"""Slots that a session keeps busy, as long as too few sessions have been seen."""
PRIOR_SESSIONS = 2.0
"""Weight of that assumption, in sessions."""


class StageForecast:
    """The busy slots of one stage."""

    def __init__(self) -> None:
        self._busy = self._sessions = self._age_ms = 0.0

    def note(self, in_hand: int, sessions: int, period_s: float) -> None:
        """A reading: jobs in progress and live sessions, `period_s` after the one before."""
        keep = math.exp(-period_s / MEMORY_S)
        self._busy = keep * self._busy + (1 - keep) * in_hand
        self._sessions = keep * self._sessions + (1 - keep) * sessions

    def busy(self, sessions: int) -> float:
        """Mean number of busy slots with this many sessions."""
        per_session = (self._busy + PRIOR_SLOTS * PRIOR_SESSIONS) / (self._sessions + PRIOR_SESSIONS)
        return per_session * sessions
