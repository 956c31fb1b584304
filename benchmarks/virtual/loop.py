"""An event loop in virtual time that stands still while an executor computes, and one in real time beside it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from tests.support.virtual_time import VirtualLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StandingLoop(VirtualLoop):
    """Calls what is given to an executor at once, in no virtual time: the result is the same on every machine."""

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on such a loop."""
    with asyncio.Runner(loop_factory=StandingLoop) as runner:
        return runner.run(main)


class LoopThread:
    """An event loop in real time, in a thread of its own: for engines that have threads and timeouts themselves."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="real time", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for its result: virtual time stands still."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
