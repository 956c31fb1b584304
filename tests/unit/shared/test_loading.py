"""A worker waits for what its engine needs, says so on the broker, and ends at once when it is asked to; in virtual time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.bus.leases import Wait
from shared.engines.registry import EngineNotReady, UnknownEngine
from shared.protocol.frames import Frame
from shared.settings import Settings
from shared.worker import lifecycle, loading
from shared.worker.lifecycle import Shutdown, first_message
from shared.worker.loading import LONGEST_RETRY_S, StageLoader
from shared.worker.work import Work
from tests.support import virtual_time

REFUSED = EngineNotReady("http://here/v1", "connection refused")
STARTING = EngineNotReady("http://here/v1", "503 Loading model")
WRONG = UnknownEngine("no model 'x'")


class Loads:
    """What becomes of each load: an error, None (it is loaded), or a number: it takes that many seconds and is loaded."""

    def __init__(self, *attempts: Exception | float | None) -> None:
        self._attempts = deque(attempts)
        self.tried_s: list[float] = []
        self.closed: list[int] = []

    def build(self) -> "FakeStage":
        return FakeStage(self, len(self.tried_s))

    async def next(self) -> None:
        self.tried_s.append(asyncio.get_running_loop().time())
        attempt = self._attempts.popleft() if len(self._attempts) > 1 else self._attempts[0]
        if isinstance(attempt, Exception):
            raise attempt
        await asyncio.sleep(attempt or 0)


class FakeStage:
    name, slots, long_lived, interruptible = "llm", 1, False, True

    def __init__(self, loads: Loads, number: int) -> None:
        self._loads, self.number = loads, number

    async def load(self) -> None:
        await self._loads.next()

    def info(self) -> dict[str, Any]:
        return {}

    async def work(self, work: Work) -> Sequence[Frame]:
        return ()

    async def close(self) -> None:
        self._loads.closed.append(self.number)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Wait | None]:
    """What was announced on the broker, one entry for each change."""
    announcements: list[Wait | None] = []

    class Broker:
        @asynccontextmanager
        async def connect(self, settings: Settings, role: str) -> AsyncIterator[str]:
            yield "bus"

    async def announce(bus: object, stage: str, wait: Wait | None) -> None:
        assert (bus, stage) == ("bus", "llm")
        announcements.append(wait)

    monkeypatch.setattr(lifecycle, "Bus", Broker())
    monkeypatch.setattr(loading, "announce_wait", announce)
    return announcements


DRAIN_S = 1.0


def load(loads: Loads, stop_s: float | None = None, engine: str = "eliza") -> tuple[bool, float]:
    """Load a stage; a shutdown is requested after `stop_s`. Returns whether it is loaded, and when that was known."""

    async def main() -> tuple[bool, float]:
        loop, shutdown = asyncio.get_running_loop(), Shutdown(DRAIN_S)
        if stop_s is not None:
            loop.call_later(stop_s, shutdown.request)
        began_s = loop.time()
        loader = StageLoader("llm", loads.build, Settings(llm_engine=engine), shutdown)
        try:
            return await loader.load(), round(loop.time() - began_s, 3)
        finally:
            await loader.stage.close()

    return virtual_time.run(main())


def test_an_engine_that_is_there_is_loaded_without_a_broker(announced: list[Wait | None]) -> None:
    loads = Loads(None)
    assert load(loads) == (True, 0.0)
    assert (announced, loads.closed) == ([], [0])


def test_a_worker_waits_with_growing_pauses_and_loads_a_new_stage_each_time(announced: list[Wait | None]) -> None:
    loads = Loads(*[REFUSED] * 6, None)
    assert load(loads) == (True, 0.5 + 1 + 2 + 4 + 5 + 5)
    pauses_s = [later - sooner for sooner, later in zip(loads.tried_s, loads.tried_s[1:], strict=False)]
    assert pauses_s == pytest.approx([0.5, 1, 2, 4, LONGEST_RETRY_S, LONGEST_RETRY_S])
    assert loads.closed == [0, 1, 2, 3, 4, 5, 6]


def test_what_is_waited_for_is_announced_every_second_with_the_time(announced: list[Wait | None]) -> None:
    assert load(Loads(REFUSED, REFUSED, STARTING, None)) == (True, 3.5)
    assert announced == [
        Wait("http://here/v1", "connection refused", 0),
        Wait("http://here/v1", "connection refused", 1),
        Wait("http://here/v1", "503 Loading model", 2),
        Wait("http://here/v1", "503 Loading model", 3),
        None,
    ]


def test_an_error_of_the_settings_ends_the_wait(announced: list[Wait | None]) -> None:
    loads = Loads(REFUSED, WRONG)
    with pytest.raises(ExceptionGroup) as raised:
        load(loads)
    assert first_message(raised.value) == "no model 'x'"
    assert isinstance(raised.value.exceptions[0], UnknownEngine)
    assert loads.closed == [0, 1]


@pytest.mark.parametrize(
    ("stop_s", "loads", "engine"),
    [(0.2, Loads(REFUSED), "eliza"), (30.2, Loads(REFUSED), "eliza"), (7.0, Loads(600.0), "openai")],
)
def test_a_shutdown_ends_the_wait_for_a_server_at_once(
    announced: list[Wait | None], stop_s: float, loads: Loads, engine: str
) -> None:
    assert load(loads, stop_s, engine) == (False, stop_s)
    assert loads.closed[-1] == len(loads.tried_s) - 1


@pytest.mark.parametrize(("takes_s", "loaded", "ends_s"), [(7.5, True, 7.5), (600.0, False, 8.0)])
def test_a_model_that_is_being_loaded_has_the_time_of_a_job_to_finish(
    announced: list[Wait | None], takes_s: float, loaded: bool, ends_s: float
) -> None:
    loads = Loads(takes_s)
    assert load(loads, 7.0, "llama-cpp") == (loaded, ends_s)
    assert loads.closed == [0]
