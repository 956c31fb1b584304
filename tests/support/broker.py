"""A private broker for one test: the one that comes with Parley, or another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.broker import answers, broker_argv, find_program, private_folder, socket_url
from shared.settings import Settings
from tests.support.waiting import HANG_S


@asynccontextmanager
async def embedded_broker(data_dir: Path, path: str = "") -> AsyncIterator[Settings]:
    """Run a broker: one of the folders in `path`, else the one that comes with Parley. Yields settings with its URL."""
    program = await find_program(path, lambda reason: None)
    with private_folder() as folder:
        process = await asyncio.create_subprocess_exec(*broker_argv(program, folder))
        try:
            async with asyncio.timeout(HANG_S):
                while not await answers(folder):
                    await asyncio.sleep(0.01)
            yield Settings(redis_url=socket_url(folder), data_dir=data_dir)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
