"""Run the edge: `python -m services.edge`."""

import asyncio
import socket
import sys
from contextlib import suppress

import uvicorn

from services.edge.gateway.gateway import Gateway
from services.edge.gateway.socket import DirectWebSocket
from services.edge.http.app import create_app
from shared.observability.process_stats import ProcessStats, set_build_info
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown, with_broker
from shared.worker.service import run_service

LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
"""Realtime allows 15 MiB of base64 audio in one `input_audio_buffer.append`."""


def server(gateway: Gateway, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(gateway),
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


async def serve(settings: Settings, shutdown: Shutdown, stats: ProcessStats) -> None:
    """Serve until shutdown. Without a broker the HTTP routes still answer, and new sessions are refused."""
    set_build_info("edge", "")
    gateway = Gateway(settings, shutdown)
    http = server(gateway, settings)
    given = [socket.socket(fileno=settings.listen_fd)] if settings.listen_fd else None
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(http._serve(given))  # noqa: SLF001 - `serve` would replace our signal handlers
        leaving = tasks.create_task(_leave_to_successor(http, shutdown)) if given else None
        try:
            await with_broker(settings, "edge", shutdown, gateway.run)
        finally:
            http.should_exit = True
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.shield(serving)
            if leaving is not None:
                leaving.cancel()


async def _leave_to_successor(http: uvicorn.Server, shutdown: Shutdown) -> None:
    """Accept no more connections once the edge stops: those who connect wait for the next process on this socket."""
    await shutdown.stopping.wait()
    for one in http.servers:
        one.close()


def main() -> int:
    return run_service("edge", serve)


if __name__ == "__main__":
    sys.exit(main())
