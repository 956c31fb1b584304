"""One turn of a talker: its marks, its state at any moment, and how much a death delayed it. Pure.

All times are seconds of the monotonic clock; 0 means not yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

STATES = ("listening", "paused", "transcribing", "generating", "speaking", "being interrupted")
GAP_S = 0.15
"""A longer time between two pieces of audio is a delay: the voice makes a piece of 50 ms every 40 ms."""


@dataclass(slots=True)
class Turn:
    began_s: float = 0.0
    paused_s: float = 0.0
    resumed_s: float = 0.0
    ended_s: float = 0.0
    """The person has stopped speaking."""
    transcribed_s: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    """When each piece of the reply's audio arrived."""
    interrupting_s: float = 0.0
    """The person began to speak into the reply."""
    over_s: float = 0.0
    completed: bool = False
    answered: bool = False
    """The reply was completed, or the person interrupted it."""

    def state(self, at_s: float) -> str | None:
        """What the turn was doing at that time; None if it had not begun or was over."""
        if at_s < self.began_s or (self.over_s and at_s >= self.over_s):
            return None
        if self.interrupting_s and at_s >= self.interrupting_s:
            return "being interrupted"
        if self.arrivals and at_s >= self.arrivals[0]:
            return "speaking"
        if self.transcribed_s and at_s >= self.transcribed_s:
            return "generating"
        if self.ended_s and at_s >= self.ended_s:
            return "transcribing"
        paused = self.paused_s and at_s >= self.paused_s and not (self.resumed_s and at_s >= self.resumed_s)
        return "paused" if paused else "listening"

    @property
    def first_audio_s(self) -> float | None:
        """Time from the end of speech to the first audio."""
        return self.arrivals[0] - self.ended_s if self.arrivals and self.ended_s else None

    def delay_s(self, death_s: float, next_death_s: float, usual_s: float) -> float:
        """Return for how long the caller waited for audio because of a death at `death_s`; 0 if it did not notice.

        Before the reply: the time from the death, or from when the reply usually begins (`usual_s` after the end of speech)
        if that is later, to the first audio. In the reply: the time from the death to the next audio after a gap. A delay that
        had not begun when the next process died belongs to that one.
        """
        if not self.arrivals:
            return 0.0
        if death_s < self.arrivals[0]:
            due_s = max(death_s, self.ended_s + usual_s)
            return self.arrivals[0] - due_s if min(self.arrivals[0], next_death_s) - due_s > GAP_S else 0.0
        gaps = [
            after - max(before, death_s)
            for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)
            if min(after, next_death_s) - max(before, death_s) > GAP_S
        ]
        return max(gaps, default=0.0)


def usual_s(turns: Sequence[Turn], first_death_s: float) -> float:
    """The median time to the first audio, of the turns before the first death if there are any."""
    calm = [turn for turn in turns if turn.arrivals and turn.arrivals[0] < first_death_s] or turns
    waits = sorted(wait for turn in calm if (wait := turn.first_audio_s) is not None)
    return waits[len(waits) // 2] if waits else 0.0
