"""Connections without a session: they take no session's place, and there are not too many of them."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from services.edge.access.caller import Caller
from services.edge.access.denied import Denied
from services.edge.access.keys import Key
from services.edge.gateway.gateway import Gateway
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.conftest import system
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S

SILENT = 5


@pytest.fixture(scope="module")
def server() -> Iterator[System]:
    with system({**SCRIPTED, "PARLEY_MAX_SILENT": str(SILENT), "PARLEY_MAX_SESSIONS": "2"}) as running:
        yield running


async def sessions(server: System) -> int:
    async with httpx.AsyncClient() as client:
        found: int = (await client.get(f"{server.url}/stats")).json()["sessions"]
        return found


async def closed(socket: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(HANG_S):
        with suppress(ConnectionClosed):
            async for _ in socket:
                pass
        await socket.wait_closed()
    return socket.close_code or 0, socket.close_reason or ""


@pytest.mark.parametrize("path", ["/ws?rate=16000", "/v1/realtime"])
async def test_silent_connections_keep_nobody_out(server: System, path: str) -> None:
    url = f"ws{server.url.removeprefix('http')}{path}"
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connect(url)) for _ in range(4 * SILENT)]
        assert await sessions(server) == 0
        async with calling(server.url) as caller:
            await caller.send("text_input", text="hello")
            await caller.until("reply_done", status="completed")
        gone = [await closed(socket) for socket in silent[: 3 * SILENT]]
        assert set(gone) == {(1013, "nothing was said, and others are waiting")}
        if path.startswith("/ws"):
            assert await closed(silent[-1]) == (1008, "the session was not started within 5 s")


async def test_a_realtime_client_takes_its_place_with_its_first_message(server: System) -> None:
    url = f"ws{server.url.removeprefix('http')}/v1/realtime"
    async with connect(url) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"
        assert await sessions(server) == 0
        await socket.send('{"type":"session.update","session":{"type":"realtime","instructions":"Be kind."}}')
        updated = json.loads(await socket.recv())
        assert (updated["type"], updated["session"]["instructions"]) == ("session.updated", "Be kind.")
        assert await sessions(server) == 1


async def test_places_are_counted_when_sessions_start(server: System) -> None:
    url = f"ws{server.url.removeprefix('http')}/ws?rate=16000"
    async with connect(url) as late, calling(server.url), calling(server.url):
        await late.send('{"type":"start_streaming"}')
        assert await closed(late) == (1013, "the server is full: it accepts 2 sessions")


def denied(gateway: Gateway, caller: Caller) -> str:
    try:
        gateway.connections.check(caller)
    except Denied as error:
        return f"{error.status} {error.code}"
    return ""


async def test_each_caller_has_limits_of_its_own() -> None:
    gateway = Gateway(Settings(caller_sessions=2, caller_connects=4), Shutdown(1))
    one, other, here = Caller("192.0.2.1"), Caller("192.0.2.2"), Caller("127.0.0.1", local=True)
    keyed = Caller("192.0.2.1", key=Key("k", "name", 0, sessions=1))
    assert [denied(gateway, one) for _ in range(5)] == [""] * 4 + ["429 too_many_connections"]
    assert [denied(gateway, caller) for caller in (other, keyed)] == ["", ""]
    assert [denied(gateway, here) for _ in range(20)] == [""] * 20
    loop = asyncio.get_running_loop()
    gateway.connections._endings = {loop.create_future(): caller for caller in (other, other, keyed, *[here] * 9)}
    assert denied(gateway, other) == "429 too_many_sessions"
    assert denied(gateway, keyed) == "429 too_many_sessions"
    assert denied(gateway, here) == ""
