"""More edges beside that of a running system: each is a process of its own, and a test may end it as it likes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.support.free_ports import free_ports
from tests.support.system import System
from tests.support.waiting import HANG_S


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that was ready when this was made."""

    url: str
    """http://host:port"""
    process: asyncio.subprocess.Process

    async def health(self) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            return await client.get("/health")


@asynccontextmanager
async def running_edge(system: System, env: Mapping[str, str]) -> AsyncIterator[Edge]:
    """Start another edge on the broker of this system."""
    port = free_ports(1)
    environ = {**os.environ, **env, "PARLEY_REDIS_URL": system.broker_url, "PARLEY_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.edge", env=environ)
    edge = Edge(f"http://127.0.0.1:{port}", process)
    try:
        await until_healthy(edge.url)
        yield edge
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_healthy(url: str) -> None:
    """Return once the edge at `url` answers, and every stage has a ready worker."""
    async with asyncio.timeout(HANG_S), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while not await _is_healthy(client):
            await asyncio.sleep(0.05)


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
