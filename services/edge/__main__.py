"""Run the edge: `python -m services.edge`."""

import asyncio
import sys
from contextlib import suppress

import structlog
import uvicorn
import uvloop

from services.edge.app import create_app
from services.edge.edge import Edge
from services.edge.socket import DirectWebSocket
from shared.lifecycle import Shutdown, first_message, with_broker
from shared.logs import configure_logging
from shared.service import EXIT_SETTINGS
from shared.settings import BadSettings, Settings, load_settings
from shared.tracing import configure_tracing, stop_tracing
from shared.vitals import Vitals, serve_metrics, tell_build
from shared.wire import BrokerRefused

log = structlog.get_logger()

LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
"""A Realtime client may append 15 MiB of base64 in one message."""


def server(edge: Edge, settings: Settings) -> uvicorn.Server:
    """The HTTP server; it leaves signals to the process's own shutdown."""
    config = uvicorn.Config(
        create_app(edge),
        host=settings.host,
        port=settings.port,
        ws=DirectWebSocket,
        ws_max_size=LARGEST_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


async def serve(settings: Settings) -> None:
    """Serve until told to stop; while there is no broker, say so to whoever asks."""
    shutdown = Shutdown(settings.drain_ms / 1000)
    shutdown.install()
    edge = Edge(settings, shutdown)
    http = server(edge, settings)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(http._serve())  # noqa: SLF001 - `serve` would take the signals from us
        watching = tasks.create_task(Vitals("edge").run())
        try:
            await with_broker(settings, "edge", shutdown, edge.run)
        finally:
            watching.cancel()
            http.should_exit = True
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.shield(serving)


def main() -> int:
    try:
        settings = load_settings()
    except BadSettings as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    configure_logging(settings, "edge")
    tell_build("edge", "")
    code = 0
    try:
        configure_tracing(settings, "edge")
        serve_metrics(settings, "edge")
        uvloop.run(serve(settings))
    except* (BadSettings, BrokerRefused) as refused:
        print(first_message(refused), file=sys.stderr)
        code = EXIT_SETTINGS
    except* asyncio.CancelledError:
        code = 1  # told twice to stop
    finally:
        stop_tracing()
    return code


if __name__ == "__main__":
    sys.exit(main())
