"""One client's burst is bounded, the client gets an error for the rest, and others hardly notice."""

import asyncio
import json
import time

import httpx
from websockets.asyncio.client import connect

from tests.support.caller import Caller, calling
from tests.support.system import System
from tests.support.waiting import HANG_S

NOTICED_S = 2.0
"""Others wait no longer for a pong, or for no more than a part of the burst: this machine may be busy. `make load` has the figure."""
PART = 0.25
ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello there " * 8}]}


async def ping_through(caller: Caller, burst: "asyncio.Task[None]") -> None:
    """Ping until the burst is over, and nobody notices it."""
    longest_s, burst_began_s = 0.0, time.monotonic()
    while not burst.done():
        number, began_s = len(caller.of("pong")), time.monotonic()
        await caller.send("ping")
        while len(caller.of("pong")) == number:
            await asyncio.sleep(0.005)
        longest_s = max(longest_s, time.monotonic() - began_s)
        await asyncio.sleep(0.02)
    await burst
    assert longest_s < max(NOTICED_S, PART * (time.monotonic() - burst_began_s))


async def type_fast(busy: Caller) -> None:
    for _ in range(3000):
        await busy.send("text_input", text="hello")
    await busy.send("ping")
    await busy.until("pong")


async def test_of_many_typed_turns_a_few_count_and_the_rest_is_refused(parley_server: System) -> None:
    async with calling(parley_server.url) as other, calling(parley_server.url) as busy:
        await ping_through(other, asyncio.create_task(type_fast(busy)))
        refused = len(busy.of("error", code="too_many"))
        assert 2000 < refused < 3000
        await other.send("text_input", text="hello")
        await other.until("reply_done", status="completed")
        await asyncio.sleep(1)  # for some more typed turns there is room again
        done = len(busy.of("reply_done"))
        await busy.send("text_input", text="hello")
        async with asyncio.timeout(HANG_S):
            while busy.of("reply_done")[done:][-1:] == [] or busy.of("reply_done")[-1]["status"] != "completed":
                await asyncio.sleep(0.02)
    async with (
        httpx.AsyncClient() as client,
        asyncio.timeout(HANG_S),
    ):  # /health shows a reading of up to half a second ago
        while (await client.get(f"{parley_server.url}/health")).json()["stages"]["llm"]["in_hand"]:
            await asyncio.sleep(0.1)


async def create_items(url: str) -> None:
    target = f"ws{url.removeprefix('http')}/v1/realtime"
    async with connect(target, compression=None, max_size=None) as socket:
        create = json.dumps({"type": "conversation.item.create", "item": ITEM})
        writing = asyncio.create_task(_write(socket, [create] * 5001))
        done, full = 0, 0
        async for message in socket:
            event = json.loads(message)
            done += event["type"] == "conversation.item.done"
            full += event["type"] == "error" and event["error"]["code"] == "conversation_full"
            if done + full == 5001:
                break
        await writing
        assert (done, full) == (5000, 1)


async def _write(socket: "object", messages: list[str]) -> None:
    for message in messages:
        await socket.send(message)  # type: ignore[attr-defined]


async def test_five_thousand_items_neither_delay_nor_end_other_sessions(parley_server: System) -> None:
    async with calling(parley_server.url) as other:
        burst = asyncio.create_task(create_items(parley_server.url))
        await ping_through(other, burst)
        await other.send("text_input", text="hello")
        await other.until("reply_done", status="completed")
        assert other.closed is None
