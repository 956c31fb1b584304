"""What has to hold after any trouble of the broker: sessions go on or end with a reason, new ones work, nothing is left."""

import asyncio
from collections.abc import AsyncIterator

import redis.asyncio as redis

from shared.settings import STAGES
from tests.support.caller import Caller, calling
from tests.support.edges import until_healthy

Client = redis.Redis
JOBS = "parley:{0}:jobs:"
FREED_S = 60.0
"""By itself, the work of a session that nobody has ended goes on for two minutes."""
OF_SESSIONS = ("in", "out", "speech", "session", "history")


async def answered(caller: Caller, turn: int) -> None:
    """Type something, and wait for the reply."""
    await caller.send("text_input", text="go on")
    await caller.until("reply_done", turn=turn, status="completed")


async def told_of_the_end(caller: Caller) -> None:
    """The session is closed with 1012 and a reason."""
    closed = await caller.until("closed")
    assert closed["code"] == 1012, closed
    assert closed["reason"]
    assert caller.of("error", code="closing")


async def until_new_sessions_work(url: str, words: bytes = b"") -> None:
    """A new session's first turn is answered: spoken, or typed if there are no words."""
    await until_healthy(url)
    async with calling(url) as caller:
        if not words:
            await answered(caller, 1)
            return
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=1, status="completed")


async def until_nothing_is_left(url: str) -> None:
    """No job waits or is held, and every key of a session has a time to live."""
    async with Client.from_url(url, decode_responses=True) as client:
        async with asyncio.timeout(FREED_S):
            while any([await client.xlen(JOBS + stage) for stage in STAGES]):
                await asyncio.sleep(0.05)
        for stage in STAGES:
            assert (await client.xpending(JOBS + stage, stage))["pending"] == 0
        async for key in keys_of_sessions(client):
            assert await client.ttl(key) != -1, key


async def keys_of_sessions(client: Client) -> AsyncIterator[str]:
    for kind in OF_SESSIONS:
        async for key in client.scan_iter(f"parley:{{0}}:{kind}:*"):
            yield key
