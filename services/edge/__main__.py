"""Run the edge: `python -m services.edge`."""

import asyncio
import sys
from contextlib import suppress

import uvicorn

from services.edge.gateway.gateway import Gateway
from services.edge.gateway.http_connection import LimitedHttpProtocol
from services.edge.gateway.socket import LARGEST_MESSAGE_BYTES, DirectWebSocket
from services.edge.http.app import create_app
from shared.observability.process_stats import ProcessStats, set_build_info
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown, with_broker
from shared.worker.service import run_service


def server(gateway: Gateway, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(gateway),
        host=settings.host,
        port=settings.port,
        ws=DirectWebSocket,
        ws_max_size=LARGEST_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        http=LimitedHttpProtocol,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


async def serve(settings: Settings, shutdown: Shutdown, stats: ProcessStats) -> None:
    """Serve until shutdown. Without a broker the HTTP routes still answer, and new sessions are refused."""
    set_build_info("edge", "")
    gateway = Gateway(settings, shutdown)
    http = server(gateway, settings)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(http._serve())  # noqa: SLF001 - `serve` would replace our signal handlers
        try:
            await with_broker(settings, "edge", shutdown, gateway.run)
        finally:
            http.should_exit = True
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.shield(serving)


def main() -> int:
    return run_service("edge", serve)


if __name__ == "__main__":
    sys.exit(main())
