"""A process outlives its broker, and ends when it is asked to; in virtual time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.settings import Settings
from shared.worker import lifecycle
from shared.worker.lifecycle import LONGEST_RETRY_S, Shutdown, first_message, with_broker
from tests.support import virtual_time


class Brokers:
    """What becomes of each attempt to connect: an error, or (None) a bus."""

    def __init__(self, *attempts: Exception | None) -> None:
        self._attempts = deque(attempts)
        self.tried_s: list[float] = []

    @asynccontextmanager
    async def connect(self, settings: Settings, role: str) -> AsyncIterator[str]:
        self.tried_s.append(asyncio.get_running_loop().time())
        error = self._attempts.popleft()
        async with asyncio.TaskGroup():  # as the real one, which runs its readers in one
            if error is not None:
                raise error
            yield "bus"

    def pauses_s(self) -> list[float]:
        return [round(later - sooner, 3) for sooner, later in zip(self.tried_s, self.tried_s[1:], strict=False)]


Body = Callable[[Bus], Awaitable[None]]


async def done(bus: Bus) -> None:
    assert bus == "bus"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Brokers]:
    """`serve(*attempts, body, stop_s)`: run `body` on these brokers; shutdown is requested after `stop_s`."""

    def run(*attempts: Exception | None, body: Body = done, stop_s: float = 1_000) -> Brokers:
        brokers = Brokers(*attempts)
        monkeypatch.setattr(lifecycle, "Bus", brokers)

        async def main() -> None:
            shutdown = Shutdown(1)
            timer = asyncio.get_running_loop().call_later(stop_s, shutdown.request)
            await with_broker(Settings(), "tts", shutdown, body)
            timer.cancel()

        virtual_time.run(main())
        return brokers

    return run


def test_pauses_between_attempts_double_up_to_a_limit(serve: Callable[..., Brokers]) -> None:
    brokers = serve(*[BrokerGone("no")] * 7, None)
    assert brokers.pauses_s() == [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_RETRY_S, LONGEST_RETRY_S]


def test_after_a_life_that_lasted_the_first_pause_is_short_again(serve: Callable[..., Brokers]) -> None:
    async def body(bus: Bus) -> None:
        lives.append(1)
        if len(lives) == 1:
            await asyncio.sleep(10)
            raise BrokerGone("it went away")

    lives: list[int] = []
    brokers = serve(*[BrokerGone("no")] * 3, None, None, body=body)
    assert brokers.pauses_s() == [0.1, 0.2, 0.4, 10.1]


def test_a_stop_ends_the_wait_for_a_broker(serve: Callable[..., Brokers]) -> None:
    brokers = serve(*[BrokerGone("no")] * 50, stop_s=5.5)
    assert brokers.tried_s[-1] < 5.5


def test_a_broker_that_refuses_ends_it_with_the_reason(serve: Callable[..., Brokers]) -> None:
    with pytest.raises(BrokerRefused, match=r"^wrong password$"):
        serve(BrokerGone("no"), BrokerRefused("wrong password"))


def test_other_errors_are_raised(serve: Callable[..., Brokers]) -> None:
    with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup") as raised:
        serve(ValueError("a fault of ours"))
    assert first_message(raised.value) == "a fault of ours"


async def test_a_second_request_cancels_the_work() -> None:
    shutdown, at_work = Shutdown(1), asyncio.Event()

    async def main() -> None:
        shutdown.install()
        at_work.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(main())
        await at_work.wait()
        shutdown.request()
        assert shutdown.stopping.is_set()
        await asyncio.sleep(0)
        assert not working.cancelling()
        shutdown.request()
    assert working.cancelled()


def test_the_first_message_of_nested_groups() -> None:
    assert first_message(ExceptionGroup("a", [ExceptionGroup("b", [ValueError("c")]), ValueError("d")])) == "c"
    assert first_message(None) == "None"
