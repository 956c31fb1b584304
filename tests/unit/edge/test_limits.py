"""What one client may use of the event loop that all share."""

import asyncio
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from services.edge.conversation.history import LIMIT_CHARS, Conversation
from services.edge.gateway import socket as sockets
from services.edge.gateway.limits import TokenBucket
from services.edge.gateway.socket import DirectWebSocket
from shared.protocol.session import Message
from tests.support.transport import FakeTransport
from tests.support.waiting import until

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TEXT = b"\x81\x82" + bytes(4) + b"hi"


def test_a_bucket_allows_a_burst_and_then_a_rate() -> None:
    bucket = TokenBucket(2.0, 3.0, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1, 0.5) for _ in range(2)] == [True, False]
    assert bucket.spend(4, 100.0) == pytest.approx(0.5)
    assert bucket.take(1, 100.9) is False
    assert bucket.take(1, 101.1) is True


async def connected(taken: list[str | bytes]) -> tuple[DirectWebSocket, FakeTransport]:
    """A WebSocket whose messages are put into the list."""
    attached = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        socket.attach(taken.append, 1000)
        attached.set()
        while (await receive())["type"] != "websocket.disconnect":
            pass

    config = Config(app, ws_per_message_deflate=False, log_config=None)
    config.load()
    socket, transport = DirectWebSocket(config, ServerState(), {}), FakeTransport()
    socket.connection_made(transport)
    socket.data_received(HANDSHAKE)
    await attached.wait()
    return socket, transport


async def ended(socket: DirectWebSocket, transport: FakeTransport) -> None:
    socket.connection_lost(None)
    await asyncio.gather(*socket.tasks)
    assert transport.closed


async def test_a_burst_is_read_in_turns_and_completely() -> None:
    taken: list[str | bytes] = []
    socket, transport = await connected(taken)
    socket.data_received(TEXT * 30_000)
    assert 0 < len(taken) < 30_000  # others come first
    assert not transport.reading
    await until(lambda: len(taken) == 30_000)
    assert set(taken) == {"hi"}
    await until(lambda: transport.reading)
    await ended(socket, transport)


async def test_a_client_that_does_not_stop_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "FLOOD_S", 0.05)
    monkeypatch.setattr(sockets, "BURST_S", 0.001)
    taken: list[str | bytes] = []
    socket, transport = await connected(taken)
    socket.data_received(TEXT * 200_000)
    await until(lambda: transport.closed)
    assert b"more messages than one client may send" in transport.written
    assert len(taken) < 200_000
    await ended(socket, transport)


async def test_a_client_that_leaves_in_its_burst_is_forgotten() -> None:
    taken: list[str | bytes] = []
    socket, transport = await connected(taken)
    socket.data_received(TEXT * 30_000)
    await ended(socket, transport)
    seen = len(taken)
    await asyncio.sleep(0.05)
    assert len(taken) == seen


async def test_a_message_has_a_size_and_a_number_of_fragments() -> None:
    for frames, reason in (
        (b"\x01\x80" + bytes(4) + (b"\x00\x80" + bytes(4)) * 5000, b"fragments"),
        (b"\x01\xfe\x03\xe8" + bytes(4 + 1000) + b"\x80\x81" + bytes(5), b"\x03\xf1"),  # 1009
    ):
        taken: list[str | bytes] = []
        socket, transport = await connected(taken)
        socket.data_received(frames)
        await until(lambda transport=transport: transport.closed)  # type: ignore[misc]
        assert reason in transport.written
        assert not taken
        await ended(socket, transport)


async def test_a_client_that_takes_nothing_is_not_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "UNREAD_S", 0.1)
    socket, transport = await connected([])
    assert socket.send_now(b"x" * 100)
    transport.reads = False
    assert socket.send_now("one")
    await asyncio.sleep(0.2)
    assert not socket.send_now("two")
    transport.unsent -= 1
    assert socket.send_now("three")
    transport.unsent = sockets.UNSENT_LIMIT_BYTES + 1
    assert not socket.send_now("four")
    transport.close()
    await ended(socket, transport)


def test_a_history_that_is_too_long_forgets_its_oldest_messages() -> None:
    history, half = Conversation(), "x" * (LIMIT_CHARS // 2)
    for key in ("a", "b", "c"):
        history.put(key, Message("user", half, 1))
    assert len(history.messages()) == 2
    history.put("b", Message("user", "short", 1))
    history.put("d", Message("user", half, 1))
    assert [len(message.text) for message in history.messages()] == [len(half), len(half)]
    history.put("e", Message("user", "x" * LIMIT_CHARS, 1))
    assert len(history.messages()) == 1
    history.clear()
    history.put("f", Message("user", half, 1))
    history.put("g", Message("user", half, 1))
    assert len(history.messages()) == 2
