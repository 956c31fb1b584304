"""Common start-up of all services: settings, logs, traces, metrics, the event loop and the exit code."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop

from shared.bus.bus import Bus
from shared.bus.connection import BrokerRefused
from shared.bus.leases import Leases
from shared.engines.registry import EngineLost, UnknownEngine
from shared.observability.logs import configure_logging
from shared.observability.process_stats import ProcessStats, serve_metrics, set_build_info
from shared.observability.tracing import configure_tracing, stop_tracing
from shared.settings import BadSettings, Settings, load_settings
from shared.worker.lifecycle import Shutdown, first_message, with_broker
from shared.worker.loading import StageLoader
from shared.worker.worker import Stage, Worker

log = structlog.get_logger()

EXIT_SETTINGS, EXIT_ENGINE = 2, 3

ServeCallback = Callable[[Settings, Shutdown, ProcessStats], Coroutine[Any, Any, None]]
"""Runs a service until the shutdown is requested."""


def run_service(role: str, serve: ServeCallback) -> int:
    """Run a service in this process until it is stopped. Returns the process's exit code."""
    code = 0
    try:
        settings = load_settings()
        configure_logging(settings, role)
        configure_tracing(settings, role)
        serve_metrics(settings, role)
        spare_collector()
        uvloop.run(_run(settings, ProcessStats(role), serve))
    except* (BadSettings, BrokerRefused, UnknownEngine) as group:
        print(first_message(group), file=sys.stderr)
        code = EXIT_SETTINGS
    except* asyncio.CancelledError:
        code = 1  # stopped by a second signal
    finally:
        stop_tracing()
    return code


def spare_collector() -> None:
    """Exempt all objects that exist now from garbage collection: modules and models live as long as the process. Without this,
    a full collection stops an edge for 0.2 s, and all its sessions with it."""
    gc.collect()
    gc.freeze()


async def _run(settings: Settings, stats: ProcessStats, serve: ServeCallback) -> None:
    shutdown = Shutdown(settings.drain_ms / 1000)
    shutdown.install()
    async with asyncio.TaskGroup() as tasks:
        measuring = tasks.create_task(stats.run())
        await serve(settings, shutdown, stats)
        measuring.cancel()


def run_stage(role: str, build: Callable[[Settings], Stage]) -> int:
    """Load a stage's engine and run its worker, on a new bus after each reconnect. Returns the process's exit code.

    While a model server that the engine needs does not answer, the worker waits for it, and is not ready.
    """

    async def serve(settings: Settings, shutdown: Shutdown, stats: ProcessStats) -> None:
        loader = StageLoader(role, lambda: build(settings), settings, shutdown)

        async def body(bus: Bus) -> None:
            leases = Leases(bus, role, settings.lease_ms)
            await Worker(loader.stage, settings, shutdown, bus, leases, stats.load).run()

        try:
            if not await loader.load():
                return
            spare_collector()
            stage = loader.stage
            shown = {
                key: value
                for key, value in stage.info().items()
                if key not in ("voices", "languages", "voice_languages")
            }
            log.info("engine loaded", **shown)
            set_build_info(role, str(stage.info()["engine"]))
            await with_broker(settings, role, shutdown, body)
        except* EngineLost as group:
            log.critical("engine lost", reason=first_message(group))
            stop_tracing()
            sys.stderr.flush()
            os._exit(EXIT_ENGINE)  # a normal exit would wait for threads, which may hang in a failed device
        finally:
            await loader.stage.close()

    return run_service(role, serve)
