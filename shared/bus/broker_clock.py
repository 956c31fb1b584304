"""The broker's clock, estimated without a round trip for each reading, and the latency of writes and reads.

The broker's clock is the common clock of all hosts. The offset comes from the fastest of the latest replies to TIME;
its error is at most half of that round trip.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from shared.bus.connection import ReplyCallback
from shared.observability import metrics
from shared.protocol.entry_id import milliseconds

SAMPLES = 12
"""Number of TIME replies that are kept."""
SAMPLE_S = 0.05
"""Minimum interval between two latency samples: an observation costs as much as writing the entry."""
ASK_S = 5.0
"""Interval between two TIME requests."""


class ClockOffset:
    """Estimates the difference between this host's clock and the broker's. Pure."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        """This host's clock minus the broker's."""
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)

    def learn(self, asked_s: float, answered_s: float, broker_s: float) -> None:
        """Add a reply to TIME, with this host's clock (seconds since 1970) before and after it."""
        took_s = answered_s - asked_s
        if took_s < 0:  # the host's clock was set back
            self._samples.clear()
            return
        self._samples.append((took_s, (asked_s + answered_s) / 2 - broker_s))
        self.offset_s = min(self._samples)[1]

    def age_s(self, entry_ms: int, now_s: float) -> float:
        """Return the age, at `now_s` of this host's clock, of a moment of the broker's clock; never negative."""
        return max(0.0, now_s - self.offset_s - entry_ms / 1000)


class BrokerClock:
    """The broker's clock in this process; samples the latency of writes and reads."""

    def __init__(self, role: str) -> None:
        self._offset = ClockOffset()
        self._published, self._read = metrics.publish_seconds.labels(role), metrics.read_seconds.labels(role)
        self._skew = metrics.clock_skew.labels(role)
        self._write_sampled_s = self._read_sampled_s = 0.0

    def age_s(self, entry_id: bytes) -> float:
        """Return the seconds since the broker wrote this entry."""
        return self._offset.age_s(milliseconds(entry_id), time.time())

    def now_ms(self) -> int:
        """Return the broker's clock, in ms since 1970."""
        return round((time.time() - self._offset.offset_s) * 1000)

    def on_entry_read(self, entry_id: bytes, now_s: float) -> None:
        """Sample the read latency of an entry that was read at `now_s` of a monotonic clock."""
        if now_s - self._read_sampled_s >= SAMPLE_S:
            self._read_sampled_s = now_s
            self._read.observe(self.age_s(entry_id))

    def timed(self, on_reply: ReplyCallback) -> ReplyCallback:
        """Return `on_reply`, wrapped to measure the time from now until the reply, at most once in `SAMPLE_S`."""
        began_s = time.monotonic()
        if began_s - self._write_sampled_s < SAMPLE_S:
            return on_reply
        self._write_sampled_s = began_s

        def measured(reply: Any) -> None:
            self._published.observe(time.monotonic() - began_s)
            on_reply(reply)

        return measured

    async def ask(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Compare the clocks once."""
        asked_s = time.time()
        seconds, microseconds = await call("TIME")
        self._offset.learn(asked_s, time.time(), int(seconds) + int(microseconds) / 1e6)
        self._skew.set(self._offset.offset_s)

    async def keep_asking(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Compare the clocks until cancelled: a few times at once, then every `ASK_S`."""
        for _ in range(SAMPLES // 2):
            await self.ask(call)
        while True:
            await asyncio.sleep(ASK_S)
            await self.ask(call)
