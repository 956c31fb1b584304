"""How long the ways to and from the broker take, by the broker's clock: a few samples a second of each."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from shared.bus.clock_offset import SAMPLES, BrokerClock
from shared.observability import metrics

SAMPLE_S = 0.05
"""Least time between two samples: an observation costs as much as writing the entry."""
ASK_S = 5.0

Then = Callable[[Any], None]


class Hops:
    """The times of one process's connection."""

    def __init__(self, role: str) -> None:
        self._clock = BrokerClock()
        self._published, self._read = metrics.publish_seconds.labels(role), metrics.read_seconds.labels(role)
        self._skew = metrics.clock_skew.labels(role)
        self._written_s = self._seen_s = 0.0

    def age_s(self, entry_id: bytes) -> float:
        """How long ago the broker wrote this entry."""
        return self._clock.age_s(int(entry_id.partition(b"-")[0]), time.time())

    def now_ms(self) -> int:
        """The broker's clock."""
        return round((time.time() - self._clock.offset_s) * 1000)

    def saw(self, entry_id: bytes, now_s: float) -> None:
        """An entry was read at `now_s` of a monotonic clock."""
        if now_s - self._seen_s >= SAMPLE_S:
            self._seen_s = now_s
            self._read.observe(self.age_s(entry_id))

    def written(self, then: Then) -> Then:
        """To be called in the place of `then`, with the reply to what is about to be written."""
        began_s = time.monotonic()
        if began_s - self._written_s < SAMPLE_S:
            return then
        self._written_s = began_s

        def answered(reply: Any) -> None:
            self._published.observe(time.monotonic() - began_s)
            then(reply)

        return answered

    async def ask(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Compare the clocks once."""
        asked_s = time.time()
        seconds, microseconds = await call("TIME")
        self._clock.learn(asked_s, time.time(), int(seconds) + int(microseconds) / 1e6)
        self._skew.set(self._clock.offset_s)

    async def keep_asking(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Compare the clocks until cancelled: quickly at first, then every few seconds."""
        for _ in range(SAMPLES // 2):
            await self.ask(call)
        while True:
            await asyncio.sleep(ASK_S)
            await self.ask(call)
