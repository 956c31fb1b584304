"""One thread batches the requests of many callers, and a failed or hanging call reaches all of them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from shared.engines.batching import Batcher
from shared.engines.registry import EngineLost
from tests.support.waiting import HANG_S


class Model:
    """Doubles numbers; a negative number is a bad request. The gate blocks a call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def answer(self, questions: Sequence[int]) -> list[int]:
        self.calls.append(list(questions))
        self.entered.set()
        assert self.gate.wait(HANG_S)
        if min(questions) < 0:
            raise ValueError("negative")
        return [2 * question for question in questions]


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.gate.set()


@pytest.fixture
async def batcher(model: Model) -> AsyncIterator[Batcher[int, int]]:
    batcher = Batcher("test", model.answer, most=4, wait_ms=0, cost=abs)
    yield batcher
    model.gate.set()
    await batcher.close()


async def held(model: Model, batcher: Batcher[int, int], question: int = 0) -> "asyncio.Future[int]":
    """Start a call that is blocked until the gate opens."""
    model.gate.clear()
    model.entered.clear()
    first = asyncio.wrap_future(batcher.submit(question))
    assert await asyncio.to_thread(model.entered.wait, HANG_S)
    return first


async def test_requests_during_a_call_share_the_next_call(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    rest = [asyncio.wrap_future(batcher.submit(number)) for number in (1, 2, 3)]
    model.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6]
    assert model.calls == [[0], [1, 2, 3]]


async def test_batches_are_limited_and_group_similar_costs(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    rest = [asyncio.wrap_future(batcher.submit(number)) for number in (1, 90, 2, 80, 3, 70)]
    model.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(call) for call in model.calls] == [1, 4, 2]
    assert set(model.calls[2]) == {90, 80}


async def test_urgent_requests_go_first(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    idle = asyncio.wrap_future(batcher.submit(1))
    urgent = asyncio.wrap_future(batcher.submit(2, urgent=True))
    model.gate.set()
    await asyncio.gather(first, idle, urgent)
    assert model.calls == [[0], [2], [1]]


async def test_an_answer_that_is_not_urgent_is_waited_for_behind_urgent_ones(
    model: Model, batcher: Batcher[int, int]
) -> None:
    first = await held(model, batcher)
    later, urgent = (asyncio.ensure_future(batcher.ask(number, urgent=number == 2)) for number in (1, 2))
    await asyncio.sleep(0)
    model.gate.set()
    assert await asyncio.gather(first, later, urgent) == [0, 2, 4]
    assert model.calls == [[0], [2], [1]]


async def test_a_request_that_is_waited_for_becomes_urgent(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    idle, submitted = asyncio.wrap_future(batcher.submit(1)), batcher.submit(2)
    waited = asyncio.ensure_future(batcher.wait(submitted))
    await asyncio.sleep(0)
    model.gate.set()
    assert await asyncio.gather(first, idle, waited) == [0, 2, 4]
    assert model.calls == [[0], [2], [1]]


async def test_cancelled_requests_are_skipped(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    vain, kept = batcher.submit(1), batcher.submit(2)
    vain.cancel()
    model.gate.set()
    assert await asyncio.gather(first, asyncio.wrap_future(kept)) == [0, 4]
    assert model.calls == [[0], [2]]


async def test_a_bad_request_fails_alone(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    asked = [asyncio.wrap_future(batcher.submit(number)) for number in (1, -1, 3)]
    model.gate.set()
    answers = await asyncio.gather(first, *asked, return_exceptions=True)
    assert answers[:2] == [0, 2]
    assert isinstance(answers[2], ValueError)
    assert answers[3] == 6
    assert await batcher.ask(5) == 10


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "no memory left"),
        (RuntimeError("CUDA error: device-side assert triggered"), "the device has failed"),
        (MemoryError(), "no memory left"),
    ],
)
async def test_a_failed_device_fails_all_requests(error: Exception, says: str) -> None:
    def answer(questions: Sequence[int]) -> list[int]:
        raise error

    batcher = Batcher("lost", answer, most=4, wait_ms=20)
    try:
        answers = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
    finally:
        await batcher.close()
    assert all(isinstance(answer, EngineLost) and says in str(answer) for answer in answers)


async def test_a_hanging_call_loses_the_engine(model: Model) -> None:
    batcher = Batcher("hangs", model.answer, most=4, wait_ms=0, timeout_s=0.05)
    model.gate.clear()
    with pytest.raises(EngineLost, match=r"not answered for 0\.05 s"):
        await batcher.ask(1)
    model.gate.set()
    await batcher.close()


async def test_close_cancels_waiting_requests(model: Model, batcher: Batcher[int, int]) -> None:
    first = await held(model, batcher)
    waits = batcher.submit(1)
    closing = asyncio.ensure_future(batcher.close())
    await asyncio.sleep(0)
    assert waits.cancelled()
    assert batcher.submit(2).cancelled()
    model.gate.set()
    assert await first == 0
    await closing


async def test_an_answer_to_a_cancelled_request_is_ignored(model: Model, batcher: Batcher[int, int]) -> None:
    model.gate.clear()
    asking = asyncio.ensure_future(batcher.ask(1))
    assert await asyncio.to_thread(model.entered.wait, HANG_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    model.gate.set()
    assert await batcher.ask(2) == 4
