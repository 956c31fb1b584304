"""The bridge from the thread of a reply to the event loop, with a scripted server."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from services.llm.engines import llama_server
from services.llm.engines.llama_server import CHUNKS, ReplyStream, ServerFailed
from shared.engines.registry import EngineLost
from tests.support.waiting import HANG_S, until

Script = Callable[[Callable[[bytes], bool]], object]


class ScriptedServer:
    """It does what a script says with the callback of a reply."""

    def __init__(self, script: Script) -> None:
        self.active_s = float("inf")
        self.ended = 0
        self._script = script

    def run_chat(self, request: bytes, take: Callable[[bytes], bool]) -> None:
        self._script(take)

    def start(self) -> ReplyStream:
        def ended() -> None:
            self.ended += 1

        stream = ReplyStream(self, b"{}", ended)  # type: ignore[arg-type]
        stream.thread.start()
        return stream


def chunk(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


async def received(server: ScriptedServer) -> list[Any]:
    async with asyncio.timeout(HANG_S):
        with closing(server.start()) as stream:
            return [one async for one in stream]


async def test_chunks_come_in_order_to_the_end() -> None:
    server = ScriptedServer(lambda take: [take(chunk(number=number)) for number in range(3 * CHUNKS)])
    assert [one.number for one in await received(server)] == list(range(3 * CHUNKS))
    assert server.ended == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 400, "message": "the request exceeds the context size"}, ValueError),
        ({"code": 500, "message": "Context size has been exceeded."}, ServerFailed),
        ({"code": 500, "message": "Compute error."}, EngineLost),
        ({"code": 500, "message": "failed to allocate a buffer"}, EngineLost),
    ],
)
async def test_an_error_of_the_server(error: dict[str, Any], kind: type[Exception]) -> None:
    server = ScriptedServer(lambda take: take(chunk(error=error)))
    with pytest.raises(kind, match=error["message"][:20]):
        await received(server)
    await until(lambda: server.ended == 1)


async def test_an_error_of_the_call_itself() -> None:
    def refuse(take: Callable[[bytes], bool]) -> None:
        raise ValueError("Expected 'messages' to be an array")

    with pytest.raises(ValueError, match="to be an array"):
        await received(ScriptedServer(refuse))


async def test_a_full_queue_holds_the_thread_up_until_the_stream_is_closed() -> None:
    taken: list[bool] = []

    def endless(take: Callable[[bytes], bool]) -> None:
        while not taken or not taken[-1]:
            taken.append(take(chunk(number=len(taken))))

    server = ScriptedServer(endless)
    stream = server.start()
    assert (await anext(stream)).number == 0
    await until(lambda: len(taken) >= CHUNKS)
    assert len(taken) <= CHUNKS + 1
    assert stream.thread.is_alive()
    stream.close()
    await until(lambda: server.ended == 1)
    assert not any(taken[:-1])
    stream.thread.join(HANG_S)


async def test_a_server_that_does_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_server, "CHECK_S", 0.01)
    go_on = threading.Event()
    server = ScriptedServer(lambda take: go_on.wait(HANG_S))
    server.active_s = float("-inf")
    try:
        with pytest.raises(EngineLost, match="nothing for 60 s"):
            await received(server)
    finally:
        go_on.set()
    await until(lambda: server.ended == 1)
