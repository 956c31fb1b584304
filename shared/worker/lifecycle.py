"""A process's life: two-phase shutdown, and the loop that reconnects to the broker."""

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
    """A request to stop. First the process takes no new work (`stopping`), then it has `drain_s` to finish its work."""

    def __init__(self, drain_s: float) -> None:
        self.stopping = asyncio.Event()
        self.drain_s = drain_s
        self._main: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Call `request` on SIGINT and SIGTERM. Must be called from the main task."""
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request)

    def request(self) -> None:
        """Begin the shutdown; the second request cancels the main task."""
        if self.stopping.is_set() and self._main is not None:
            self._main.cancel()
        self.stopping.set()


async def with_broker(
    settings: Settings, role: str, shutdown: Shutdown, body: Callable[[Bus], Awaitable[None]]
) -> None:
    """Run `body` on a connected bus; when the connection is lost, reconnect with back-off and run it again.

    Returns when `body` returns, or when a shutdown is requested while the broker is not reachable.

    Raises:
        BrokerRefused: the broker is too old or denies access.
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
        log.warning("broker lost", reason=first_message(reason), retry_s=pause_s)
        if loop.time() - began > LONGEST_RETRY_S:
            pause_s = FIRST_RETRY_S
        try:
            async with asyncio.timeout(pause_s):
                await shutdown.stopping.wait()
        except TimeoutError:
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)


def first_message(error: BaseException | None) -> str:
    """Return the message of an error, or of the first error in an exception group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
