"""A TCP proxy that delays everything by a fixed time in each direction, as a distant network does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"
READ_BYTES = 65_536
CHUNKS = 10_000
"""Chunks under way in one direction."""


@asynccontextmanager
async def slow_network(port: int, delay_s: float) -> AsyncIterator[int]:
    """Forward connections to `port` of this machine. Yields the proxy's port."""

    async def forward(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(HOST, port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_delayed(client, to_server, delay_s))
            tasks.create_task(_delayed(server, to_client, delay_s))

    proxy = await asyncio.start_server(forward, HOST, 0)
    async with proxy:
        yield proxy.sockets[0].getsockname()[1]


async def _delayed(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS)

    async def receive() -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = await source.read(READ_BYTES)
            except ConnectionError:
                chunk = b""
            await under_way.put((loop.time() + delay_s, chunk))

    async def send() -> None:
        while True:
            due_s, chunk = await under_way.get()
            await asyncio.sleep(due_s - loop.time())
            if not chunk:
                return
            target.write(chunk)

    with suppress(ConnectionError):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(receive())
            tasks.create_task(send())
    target.close()
