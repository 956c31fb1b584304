"""What the entry points of all services share: settings, logs, traces, metrics, the event loop, and the exit code."""

import asyncio
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
from shared.observability.process_stats import ProcessStats, serve_metrics, tell_build
from shared.observability.tracing import configure_tracing, stop_tracing
from shared.settings import BadSettings, Settings, load_settings
from shared.worker.lifecycle import Shutdown, first_message, with_broker
from shared.worker.worker import Stage, Worker

log = structlog.get_logger()

EXIT_SETTINGS, EXIT_ENGINE = 2, 3

ServeCallback = Callable[[Settings, Shutdown, ProcessStats], Coroutine[Any, Any, None]]
"""What a service does until it is told to stop."""


def run_service(role: str, serve: ServeCallback) -> int:
    """Run one service in this process until it is told to stop. Returns the process's exit code."""
    code = 0
    try:
        settings = load_settings()
        configure_logging(settings, role)
        configure_tracing(settings, role)
        serve_metrics(settings, role)
        uvloop.run(_run(settings, ProcessStats(role), serve))
    except* (BadSettings, BrokerRefused, UnknownEngine) as group:
        print(first_message(group), file=sys.stderr)
        code = EXIT_SETTINGS
    except* asyncio.CancelledError:
        code = 1  # told twice to stop
    finally:
        stop_tracing()
    return code


async def _run(settings: Settings, vitals: ProcessStats, serve: ServeCallback) -> None:
    shutdown = Shutdown(settings.drain_ms / 1000)
    shutdown.install()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(vitals.run())
        await serve(settings, shutdown, vitals)
        watching.cancel()


def run_stage(role: str, build: Callable[[Settings], Stage]) -> int:
    """Run one stage: its engine, once loaded, in a worker on a bus that comes and goes. Returns the process's exit code."""

    async def serve(settings: Settings, shutdown: Shutdown, vitals: ProcessStats) -> None:
        stage = build(settings)

        async def body(bus: Bus) -> None:
            leases = Leases(bus, stage.name, settings.lease_ms)
            await Worker(stage, settings, shutdown, bus, leases, vitals.load).run()

        try:
            await stage.load()
            log.info("loaded", **{key: value for key, value in stage.info().items() if key != "voices"})
            tell_build(role, str(stage.info()["engine"]))
            await with_broker(settings, role, shutdown, body)
        except* EngineLost as group:
            log.critical("engine lost", reason=first_message(group))
            stop_tracing()
            sys.stderr.flush()
            os._exit(EXIT_ENGINE)  # a thread may hang in a dead device, and would be waited for
        finally:
            await stage.close()

    return run_service(role, serve)
