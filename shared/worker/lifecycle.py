"""From the start of a process to its end: two-phase shutdown, and the loop that outlives the broker."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog

from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.observability import metrics
from shared.settings import Settings

log = structlog.get_logger()

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 2.0


class Shutdown:
    """Phase one: take no new work (`stopping`). Phase two: the deadline for the work in hand. A second signal ends it at once."""

    def __init__(self, drain_s: float) -> None:
        self.stopping = asyncio.Event()
        self.drain_s = drain_s
        self._main: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Make SIGINT and SIGTERM call `request`; call it from the main task."""
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request)

    def request(self) -> None:
        if self.stopping.is_set() and self._main is not None:
            self._main.cancel()
        self.stopping.set()


async def with_broker(
    settings: Settings, role: str, shutdown: Shutdown, body: Callable[[Bus], Awaitable[None]]
) -> None:
    """Run `body` on a connected bus; when the broker goes, wait for it to come back and run `body` anew.

    Returns when `body` returns, or when shutdown was requested while there was no broker.

    Raises:
        BrokerRefused: the broker is too old, or does not let us in.
    """
    loop = asyncio.get_running_loop()
    pause_s = FIRST_RETRY_S
    while not shutdown.stopping.is_set():
        began = loop.time()
        refused: BaseException | None = None
        reason: BaseException | None = None
        try:
            async with Bus.connect(settings, role) as bus:
                await body(bus)
        except* BrokerGone as group:
            reason = group
        except* BrokerRefused as group:
            refused = group
        if refused is not None:
            raise BrokerRefused(first_message(refused))
        if reason is None:
            return
        metrics.reconnects.labels(role).inc()
        log.warning("broker gone", reason=first_message(reason), retry_s=pause_s)
        if loop.time() - began > LONGEST_RETRY_S:
            pause_s = FIRST_RETRY_S
        try:
            async with asyncio.timeout(pause_s):
                await shutdown.stopping.wait()
        except TimeoutError:
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)


def first_message(error: BaseException | None) -> str:
    """What the first of a group of errors says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
