"""What the four stages' entry points share: settings, logging, event loop, and the worker on a bus that comes and goes."""

import asyncio
import os
import sys
from collections.abc import Callable

import structlog
import uvloop

from shared.bus import Bus
from shared.engines import EngineLost, UnknownEngine
from shared.lifecycle import Shutdown, first_message, with_broker
from shared.logs import configure_logging
from shared.settings import BadSettings, Settings, load_settings
from shared.tracing import configure_tracing, stop_tracing
from shared.vitals import Vitals, serve_metrics, tell_build
from shared.wire import BrokerRefused
from shared.worker import Stage, Worker

log = structlog.get_logger()

EXIT_SETTINGS, EXIT_ENGINE = 2, 3


def run_stage(build: Callable[[Settings], Stage]) -> int:
    """Run one stage until it is told to stop. Returns the process's exit code."""
    try:
        settings = load_settings()
        stage = build(settings)
    except (BadSettings, UnknownEngine) as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    configure_logging(settings, stage.name)
    code = 0
    try:
        configure_tracing(settings, stage.name)
        serve_metrics(settings, stage.name)
        uvloop.run(_serve(stage, settings))
    except* (BadSettings, BrokerRefused, UnknownEngine) as group:
        print(first_message(group), file=sys.stderr)
        code = EXIT_SETTINGS
    except* asyncio.CancelledError:
        code = 1  # told twice to stop
    finally:
        stop_tracing()
    return code


async def _serve(stage: Stage, settings: Settings) -> None:
    shutdown = Shutdown(settings.drain_ms / 1000)
    shutdown.install()
    vitals = Vitals(stage.name)

    async def body(bus: Bus) -> None:
        await Worker(stage, settings, shutdown, bus, vitals.load).run()

    try:
        await stage.load()
        log.info("loaded", **{key: value for key, value in stage.info().items() if key != "voices"})
        tell_build(stage.name, str(stage.info()["engine"]))
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(vitals.run())
            await with_broker(settings, stage.name, shutdown, body)
            watching.cancel()
    except* EngineLost as group:
        log.critical("engine lost", reason=first_message(group))
        stop_tracing()
        sys.stderr.flush()
        os._exit(EXIT_ENGINE)  # a thread may hang in a dead device, and would be waited for
    finally:
        await stage.close()
