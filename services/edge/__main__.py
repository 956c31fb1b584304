"""Run the edge: `python -m services.edge`."""

import asyncio
import socket
import ssl
import sys
from contextlib import suppress

import uvicorn

from services.edge.gateway.gateway import Gateway
from services.edge.gateway.http_connection import LimitedHttpProtocol
from services.edge.gateway.socket import LARGEST_MESSAGE_BYTES, DirectWebSocket
from services.edge.http.app import create_app
from shared.observability.process_stats import ProcessStats, set_build_info
from shared.settings import BadSettings, Settings
from shared.worker.lifecycle import Shutdown, with_broker
from shared.worker.service import run_service


def check_tls(settings: Settings) -> None:
    """
    Raises:
        BadSettings: the files of the certificate cannot be used.
    """
    if settings.tls_cert is None and settings.tls_key is None:
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise BadSettings("PARLEY_TLS_CERT and PARLEY_TLS_KEY belong together: set both, or none")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # also ssl.SSLError
        names = f"PARLEY_TLS_CERT={settings.tls_cert}, PARLEY_TLS_KEY={settings.tls_key}"
        raise BadSettings(f"{names}: cannot be used: {error.strerror or error}") from None


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
        # From nobody else: else a client could claim any address.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    return uvicorn.Server(config)


async def serve(settings: Settings, shutdown: Shutdown, stats: ProcessStats) -> None:
    """Serve until shutdown. Without a broker the HTTP routes still answer, and new sessions are refused."""
    set_build_info("edge", "")
    check_tls(settings)
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
