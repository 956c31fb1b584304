"""Run the edge: `python -m services.edge`."""

import asyncio
import sys
from contextlib import suppress

import uvicorn

from services.edge.gateway.gateway import Edge
from services.edge.gateway.socket import DirectWebSocket
from services.edge.http.app import create_app
from shared.observability.process_stats import ProcessStats, set_build_info
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown, with_broker
from shared.worker.service import run_service

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


async def serve(settings: Settings, shutdown: Shutdown, vitals: ProcessStats) -> None:
    """Serve until told to stop; while there is no broker, say so to whoever asks."""
    set_build_info("edge", "")
    edge = Edge(settings, shutdown)
    http = server(edge, settings)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(http._serve())  # noqa: SLF001 - `serve` would take the signals from us
        try:
            await with_broker(settings, "edge", shutdown, edge.run)
        finally:
            http.should_exit = True
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.shield(serving)


def main() -> int:
    return run_service("edge", serve)


if __name__ == "__main__":
    sys.exit(main())
