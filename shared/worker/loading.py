"""Loads the engine of a stage. While what the engine needs is not ready, waits for it, and announces that on the broker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from shared.bus.bus import Bus
from shared.bus.leases import Wait, announce_wait
from shared.engines.registry import EngineNotReady
from shared.settings import ENDPOINT_ENGINE, Settings
from shared.worker.lifecycle import Shutdown, with_broker
from shared.worker.worker import Stage

log = structlog.get_logger()

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 5.0
ANNOUNCE_S = 1.0
"""Interval of the announcements."""


class _ShutdownRequested(Exception):
    """Ends the load."""


class StageLoader:
    """Builds a stage and loads its engine, as often as it takes."""

    def __init__(self, role: str, build: Callable[[], Stage], settings: Settings, shutdown: Shutdown) -> None:
        self._role, self._build, self._settings, self._shutdown = role, build, settings, shutdown
        self.stage = build()
        """The latest stage that was built. The caller closes it."""
        self._missing: EngineNotReady | None = None  # why the latest attempt failed
        self._since_s = 0.0  # when the first attempt failed, by the event loop's clock
        self._loaded = asyncio.Event()

    async def load(self) -> bool:
        """Load the engine. Returns False if a shutdown was requested before it was loaded.

        Raises:
            BrokerRefused: in a group; the broker is too old or denies access, while the engine is waited for.
            Exception: in a group; what `Stage.load` raises, except `EngineNotReady`.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._end_at_shutdown())
                await self._load(tasks)
                self._loaded.set()
                watching.cancel()
        except* _ShutdownRequested:
            pass
        return self._loaded.is_set()

    async def _end_at_shutdown(self) -> None:
        await self._shutdown.stopping.wait()
        at_endpoint = getattr(self._settings, f"{self._role}_engine") == ENDPOINT_ENGINE
        if self._missing is None and not at_endpoint:
            # A model of this machine is loaded by a thread, which cannot be stopped. Some libraries abort the process then.
            await asyncio.sleep(self._shutdown.drain_s)
        raise _ShutdownRequested

    async def _load(self, tasks: asyncio.TaskGroup) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                await self.stage.load()
                return
            except EngineNotReady as error:
                self._note(error, tasks)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            await self.stage.close()
            self.stage = self._build()

    def _note(self, error: EngineNotReady, tasks: asyncio.TaskGroup) -> None:
        before, self._missing = self._missing, error
        if before is None:
            self._since_s = asyncio.get_running_loop().time()
            tasks.create_task(with_broker(self._settings, self._role, self._shutdown, self._announce))
        if before is None or str(before) != str(error):  # not with every attempt
            log.warning("engine waits", awaited=error.awaited, reason=error.reason)

    async def _announce(self, bus: Bus) -> None:
        while not self._loaded.is_set():
            await announce_wait(bus, self.stage.name, self._wait())
            with suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_S):
                    await self._loaded.wait()
        await announce_wait(bus, self.stage.name, None)

    def _wait(self) -> Wait | None:
        if self._missing is None:
            return None
        waited_s = asyncio.get_running_loop().time() - self._since_s
        return Wait(self._missing.awaited, self._missing.reason, round(waited_s))
