"""An edge in the test's own process, on a free port, with or without a broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.edge.__main__ import server
from services.edge.gateway.gateway import Gateway
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown


@dataclass(slots=True)
class Edge:
    gateway: Gateway
    port: int
    client: httpx.AsyncClient = field(repr=False)

    async def handshake(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        subprotocols: list[str] | None = None,
        *,
        hold: asyncio.Event | None = None,
    ) -> int:
        """Open a WebSocket, and keep it until `hold` is set. Returns the status of the answer: 101 if it was accepted."""
        given = dict(headers or {})
        host = given.pop("Host", f"127.0.0.1:{self.port}")
        try:
            async with connect(
                f"ws://{host}{path}", host="127.0.0.1", port=self.port, additional_headers=given, proxy=None,
                subprotocols=subprotocols,  # type: ignore[arg-type] # plain strings
            ):  # fmt: skip
                if hold is not None:
                    await hold.wait()
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


@asynccontextmanager
async def running_edge(settings: Settings) -> AsyncIterator[Edge]:
    """Serve as `parley edge` does. Without a broker each session is refused with 503, or 1013, after the handshake's checks."""
    gateway = Gateway(settings, Shutdown(1))
    http = server(gateway, settings.model_copy(update={"port": 0}))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(http._serve())
        try:
            while not http.started:
                await asyncio.sleep(0.01)
            port = http.servers[0].sockets[0].getsockname()[1]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                yield Edge(gateway, port, client)
        finally:
            http.should_exit = True
            await serving
