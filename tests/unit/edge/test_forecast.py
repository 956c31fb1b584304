"""Admission by forecast load, in virtual time: callers arrive until many are refused, and those who were admitted stay quick.

The engines are those of the ramp in docs/reliability.md: 3 slots for the chat model and 3 for the voice, transcript after 150 ms,
first token after 200 ms, a word every 100 ms, first audio after 150 ms. A caller speaks, hears three sentences, and speaks again.
"""

import asyncio
import random
import statistics

import pytest

from services.edge.gateway.admission import PERIOD_S
from services.edge.gateway.forecast import StageForecast
from shared.settings import Settings
from tests.support import virtual_time

SLOTS = 3
UNLOADED_S = 0.8
LIMIT = Settings().load_limit
SPEECH_S, TRANSCRIPT_S, CLAUSE_S, REST_S, VOICE_S, REPLY_S = 2.0, 0.15, 0.5, 1.2, 0.15, 4.8


class Ramp:
    """One system, and the callers who were admitted to it."""

    def __init__(self, seed: int, slots: int, limit: float) -> None:
        self.chance, self.slots, self.limit = random.Random(seed), slots, limit
        self.llm, self.tts = asyncio.Semaphore(slots), asyncio.Semaphore(slots)
        self.forecast = StageForecast()
        self.in_hand = self.sessions = self.refused = 0
        self.latencies_s: list[tuple[float, float]] = []
        """When a reply began, and how long after the end of speech."""

    async def run(self, callers: int, every_s: float, rest_s: float) -> list[float]:
        """Admit or refuse this many callers. Returns the latencies in the rest after the last has come."""
        loop, tasks = asyncio.get_running_loop(), [asyncio.create_task(self._read())]
        for _ in range(callers):
            if self.sessions and self.forecast.busy(self.sessions + 1) > self.limit * self.slots:
                self.refused += 1
            else:
                self.sessions += 1
                tasks.append(asyncio.create_task(self._talk()))
            await asyncio.sleep(every_s)
        since_s = loop.time()
        await asyncio.sleep(rest_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [latency_s for at_s, latency_s in self.latencies_s if at_s > since_s]

    async def _read(self) -> None:
        while True:
            self.forecast.note(self.in_hand, self.sessions, PERIOD_S)
            await asyncio.sleep(PERIOD_S)

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SPEECH_S * self.chance.uniform(0.5, 1.5))
            spoken_s = loop.time()
            await asyncio.sleep(TRANSCRIPT_S)
            async with asyncio.TaskGroup() as tasks, self.llm:
                self.in_hand += 1
                await asyncio.sleep(CLAUSE_S)
                tasks.create_task(self._speak(spoken_s))
                await asyncio.sleep(REST_S)
                self.in_hand -= 1
            await asyncio.sleep(REPLY_S)

    async def _speak(self, spoken_s: float) -> None:
        async with self.tts:
            await asyncio.sleep(VOICE_S)
        now_s = asyncio.get_running_loop().time()
        self.latencies_s.append((now_s, now_s - spoken_s))


def ramp(
    seed: int, *, slots: int = SLOTS, limit: float = LIMIT, callers: int = 40, every_s: float = 4.0
) -> tuple[Ramp, float]:
    """A ramp, and the median latency of those who were admitted."""

    async def main() -> tuple[Ramp, float]:
        one = Ramp(seed, slots, limit)
        return one, statistics.median(await one.run(callers, every_s, 60.0))

    return virtual_time.run(main())


@pytest.mark.parametrize("seed", range(2))
def test_admitted_callers_are_answered_as_if_they_were_nearly_alone(seed: int) -> None:
    done, p50_s = ramp(seed)
    assert p50_s < 2 * UNLOADED_S
    assert 10 <= done.sessions <= 16  # the slots are saturated by 16
    assert done.refused == 40 - done.sessions


def test_without_a_forecast_they_would_wait() -> None:
    done, p50_s = ramp(0, limit=1000.0)
    assert done.sessions == 40
    assert p50_s > 10 * UNLOADED_S


def test_a_burst_of_callers_is_admitted_with_care() -> None:
    """Nothing is known of the first callers: the load that they will be comes seconds after they were admitted."""
    done, p50_s = ramp(0, every_s=0.02)
    assert p50_s < 2 * UNLOADED_S
    assert done.sessions >= 8


def test_more_slots_admit_more_callers() -> None:
    done, p50_s = ramp(0, slots=12, callers=80, every_s=1.0)
    assert p50_s < 2 * UNLOADED_S
    assert done.sessions >= 40


def test_sessions_that_say_nothing_leave_room() -> None:
    forecast = StageForecast()
    for _ in range(200):
        forecast.note(0, 100, PERIOD_S)
    assert forecast.busy(300) < LIMIT * SLOTS
