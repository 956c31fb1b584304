"""Batches model calls across sessions: one thread calls the model with all requests of a few milliseconds."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Generic, TypeVar

from shared.engines.devices import lost
from shared.engines.registry import EngineLost
from shared.observability import metrics

Q = TypeVar("Q")
A = TypeVar("A")

CLOSE_S = 5.0
"""How long `close` waits for the running call."""


class Batcher(Generic[Q, A]):
    """Takes requests from the event loop and answers them from the model's thread.

    Urgent requests go first. Requests that are cancelled before their call are skipped. The queue is bounded by the
    worker's slots, as each job has one request at a time.
    """

    def __init__(
        self,
        stage: str,
        answer: Callable[[Sequence[Q]], Sequence[A]],
        *,
        most: int,
        wait_ms: float,
        timeout_s: float = 60.0,
        cost: Callable[[Q], float] | None = None,
    ) -> None:
        """`answer` runs in the thread; it takes at most `most` requests and returns one answer for each, in order.

        `cost`: requests of similar cost are batched together, because a batch takes as long as its longest request.
        """
        self._answer, self._most, self._wait_s, self._timeout_s = answer, most, wait_ms / 1000, timeout_s
        self._cost = cost
        self._sizes = metrics.batch_size.labels(stage)
        self._waiting: list[tuple[bool, Q, Future[A]]] = []
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: a call that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=stage, daemon=True)
        self._thread.start()

    async def ask(self, question: Q, *, urgent: bool = True) -> A:
        """Return the answer to one request.

        Raises:
            EngineLost: the device has failed, or there was no answer within `timeout_s`.
        """
        return await self._answered(self.submit(question, urgent=urgent))

    async def wait(self, future: Future[A]) -> A:
        """Return the answer to a request that was submitted, which is urgent from now on. Raises as `ask` does."""
        with self._changed:
            self._waiting = [(urgent or own is future, question, own) for urgent, question, own in self._waiting]
        return await self._answered(future)

    async def _answered(self, future: Future[A]) -> A:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise EngineLost(f"the model has not answered for {self._timeout_s:g} s") from None

    def submit(self, question: Q, *, urgent: bool = False) -> Future[A]:
        """Add a request without waiting for its answer; the future may be cancelled."""
        future: Future[A] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._waiting.append((urgent, question, future))
            self._changed.notify()
        return future

    async def close(self) -> None:
        """Cancel the waiting requests, and wait up to `CLOSE_S` for the running call."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify()
        for _, _, future in waiting:
            future.cancel()
        # A library that is unloaded while its thread still runs aborts the process.
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            asked = [one for one in batch if one[2].set_running_or_notify_cancel()]
            if asked:
                self._sizes.observe(len(asked))
                self._call(asked)

    def _next(self) -> list[tuple[bool, Q, Future[A]]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            until = time.monotonic() + self._wait_s
            while not self._closed and len(self._waiting) < self._most and (rest := until - time.monotonic()) > 0:
                self._changed.wait(rest)
            if self._closed:
                return None
            urgent = [one for one in self._waiting if one[0]]
            ready = urgent or self._waiting
            if self._cost is not None and len(ready) > self._most:
                oldest, cost = ready[0], self._cost
                at = cost(oldest[1])
                ready = [oldest, *sorted(ready[1:], key=lambda one: abs(cost(one[1]) - at))]
            batch = ready[: self._most]
            taken = {id(one) for one in batch}
            self._waiting = [one for one in self._waiting if id(one) not in taken]
            return batch

    def _call(self, asked: list[tuple[bool, Q, Future[A]]]) -> None:
        try:
            answers = self._answer([question for _, question, _ in asked])
        except BaseException as error:  # noqa: BLE001 - it is raised again to the callers
            gone = lost(error)
            if gone is None and len(asked) > 1:
                for one in asked:  # one bad request must not fail the others
                    self._call([one])
                return
            for _, _, future in asked:
                _settle(future, gone or error)
            return
        for (_, _, future), answer in zip(asked, answers, strict=True):
            _settle(future, answer)


def _settle(future: "Future[A]", outcome: A | BaseException) -> None:
    try:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except (InvalidStateError, CancelledError):
        pass  # the caller was cancelled
