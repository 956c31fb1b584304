"""A TCP proxy that delays everything by a fixed time in each direction, as a distant network does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

HOST = "127.0.0.1"
READ_BYTES = 65_536
CHUNKS = 10_000
"""Chunks under way in one direction."""


@asynccontextmanager
async def slow_network(port: int, delay_s: float) -> AsyncIterator[int]:
    """Forward connections to `port` of this machine. Yields the proxy's port."""

    connections: set[asyncio.Task[None]] = set()

    async def forward(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(HOST, port)
        except ConnectionError:
            to_client.close()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_delayed(client, to_server, delay_s))
            tasks.create_task(_delayed(server, to_client, delay_s))

    def accept(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        # A coroutine here would become a task of asyncio's, which nobody can end.
        connection = tasks.create_task(forward(client, to_client))
        connections.add(connection)
        connection.add_done_callback(connections.discard)

    async with asyncio.TaskGroup() as tasks:
        proxy = await asyncio.start_server(accept, HOST, 0)
        async with proxy:
            yield proxy.sockets[0].getsockname()[1]
        for connection in connections:
            connection.cancel()


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

    with closing(target):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(receive())
            tasks.create_task(send())
