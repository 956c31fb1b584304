"""The broker's clock, as far as this process knows it: one clock for all hosts, without asking at every use. Pure.

Its offset is taken from the quickest of the latest answers to TIME: half of what that took bounds the error.
"""

from collections import deque

SAMPLES = 12


class BrokerClock:
    """Estimates the broker's time from this host's."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        """This host's clock less the broker's."""
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)

    def learn(self, asked_s: float, answered_s: float, broker_s: float) -> None:
        """One answer to TIME, between two looks at this host's clock (seconds since 1970)."""
        took_s = answered_s - asked_s
        if took_s < 0:  # the host's clock was set back meanwhile
            self._samples.clear()
            return
        self._samples.append((took_s, (asked_s + answered_s) / 2 - broker_s))
        self.offset_s = min(self._samples)[1]

    def age_s(self, entry_ms: int, now_s: float) -> float:
        """Age of what the broker wrote at `entry_ms` of its clock, at `now_s` of this host's; never negative."""
        return max(0.0, now_s - self.offset_s - entry_ms / 1000)
