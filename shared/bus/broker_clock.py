"""The broker's clock: one clock for all hosts, without a round trip for each reading; and how long the hops to the broker take.

The offset comes from the fastest of the latest answers to TIME: half of that round trip bounds its error.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from shared.observability import metrics
from shared.protocol.entry_id import milliseconds

SAMPLES = 12
"""Answers to TIME that are remembered."""
SAMPLE_S = 0.05
"""Least time between two samples: an observation costs as much as writing the entry."""
ASK_S = 5.0

ReplyCallback = Callable[[Any], None]


class ClockOffset:
    """Estimates how far this host's clock is from the broker's. Pure."""

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


class BrokerClock:
    """Reads the broker's clock, and samples how long writes and reads take."""

    def __init__(self, role: str) -> None:
        self._offset = ClockOffset()
        self._published, self._read = metrics.publish_seconds.labels(role), metrics.read_seconds.labels(role)
        self._skew = metrics.clock_skew.labels(role)
        self._written_s = self._seen_s = 0.0

    def age_s(self, entry_id: bytes) -> float:
        """How long ago the broker wrote this entry."""
        return self._offset.age_s(milliseconds(entry_id), time.time())

    def now_ms(self) -> int:
        """The broker's clock."""
        return round((time.time() - self._offset.offset_s) * 1000)

    def on_entry_read(self, entry_id: bytes, now_s: float) -> None:
        """An entry was read at `now_s` of a monotonic clock."""
        if now_s - self._seen_s >= SAMPLE_S:
            self._seen_s = now_s
            self._read.observe(self.age_s(entry_id))

    def timed(self, on_reply: ReplyCallback) -> ReplyCallback:
        """Wrap `on_reply`, so that the time from now until the reply is measured, at most once in `SAMPLE_S`."""
        began_s = time.monotonic()
        if began_s - self._written_s < SAMPLE_S:
            return on_reply
        self._written_s = began_s

        def answered(reply: Any) -> None:
            self._published.observe(time.monotonic() - began_s)
            on_reply(reply)

        return answered

    async def ask(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Compare the clocks once."""
        asked_s = time.time()
        seconds, microseconds = await call("TIME")
        self._offset.learn(asked_s, time.time(), int(seconds) + int(microseconds) / 1e6)
        self._skew.set(self._offset.offset_s)

    async def keep_asking(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Compare the clocks until cancelled: quickly at first, then every few seconds."""
        for _ in range(SAMPLES // 2):
            await self.ask(call)
        while True:
            await asyncio.sleep(ASK_S)
            await self.ask(call)
