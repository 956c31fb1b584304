"""The broker loses its data, stands still, is full or restarts: live sessions go on or are told, and new ones work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import redis.asyncio as redis

from shared.settings import STAGES
from tests.conftest import system
from tests.support.caller import Caller, calling
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S

Speech = Callable[[str, int], bytes]
Client = redis.Redis  # its generic parameter exists only for type checkers
Trouble = Callable[["Client[Any]"], Awaitable[object]]
JOBS = "parley:{0}:jobs:"
OF_SESSIONS = ("in", "out", "speech", "session", "history")


@pytest.fixture(scope="module")
def whole_system() -> Iterator[System]:
    with system({**SCRIPTED, "PARLEY_LEASE_MS": "600"}) as running:
        yield running


async def answered(caller: Caller, turn: int) -> None:
    await caller.send("text_input", text="go on")
    await caller.until("reply_done", turn=turn, status="completed")


async def told_of_the_end(caller: Caller) -> None:
    closed = await caller.until("closed")
    assert closed["code"] == 1012, closed
    assert closed["reason"]
    assert caller.of("error", code="closing")


async def until_new_sessions_work(url: str, words: bytes) -> None:
    async with asyncio.timeout(HANG_S), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while (await client.get("/health")).status_code != 200:
            await asyncio.sleep(0.05)
    async with calling(url) as caller:
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=1, status="completed")


async def until_nothing_is_left(client: "Client[Any]") -> None:
    """No job waits or is held, and every key of a session has a time to live."""
    async with asyncio.timeout(HANG_S):
        while any([await client.xlen(JOBS + stage) for stage in STAGES]):
            await asyncio.sleep(0.05)
    for stage in STAGES:
        assert (await client.xpending(JOBS + stage, stage))["pending"] == 0
    for kind in OF_SESSIONS:
        async for key in client.scan_iter(f"parley:{{0}}:{kind}:*"):
            assert await client.ttl(key) != -1, key


def command(*words: str | int) -> Trouble:
    async def strike(client: "Client[Any]") -> object:
        return await client.execute_command(*words)

    return strike


async def delete_sessions(client: "Client[Any]") -> None:
    for kind in OF_SESSIONS:
        async for key in client.scan_iter(f"parley:{{0}}:{kind}:*"):
            await client.delete(key)


LOSSES: dict[str, Trouble] = {
    "FLUSHALL": command("FLUSHALL"),
    "SCRIPT FLUSH": command("SCRIPT", "FLUSH"),
    "DEL of all sessions": delete_sessions,
    "XTRIM jobs:vad": command("XTRIM", JOBS + "vad", "MAXLEN", 0),
    **{f"DEL jobs:{stage}": command("DEL", JOBS + stage) for stage in STAGES},
    **{f"XGROUP DESTROY {stage}": command("XGROUP", "DESTROY", JOBS + stage, stage) for stage in STAGES},
}
ENDS_SESSIONS = {"FLUSHALL", "DEL of all sessions"}


@pytest.mark.parametrize("loss", LOSSES)
async def test_what_the_broker_lost_is_made_again(whole_system: System, loss: str, speech_pcm: Speech) -> None:
    pids = whole_system.pids
    async with (
        Client.from_url(whole_system.broker_url, decode_responses=True) as client,
        calling(whole_system.url) as idle,
        calling(whole_system.url) as talking,
    ):
        await answered(talking, 1)
        await LOSSES[loss](client)
        for caller, turn in ((talking, 2), (idle, 1)):
            await (told_of_the_end(caller) if loss in ENDS_SESSIONS else answered(caller, turn))
        await until_new_sessions_work(whole_system.url, speech_pcm("hello there", 16_000))
    async with Client.from_url(whole_system.broker_url, decode_responses=True) as client:
        await until_nothing_is_left(client)
    assert whole_system.pids == pids
