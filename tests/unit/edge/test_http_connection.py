"""Requests that are too long, or take too long to arrive."""

import asyncio
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from services.edge.gateway import http_connection
from services.edge.gateway.http_connection import HEADER_BYTES, LimitedHttpProtocol
from tests.support.transport import FakeTransport
from tests.support.waiting import until

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += len(message["body"])
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Connection:
    def __init__(self) -> None:
        config = Config(app, log_config=None, lifespan="off", timeout_keep_alive=600)
        config.load()
        self.transport = FakeTransport()
        self.protocol = LimitedHttpProtocol(config, ServerState(), {})
        self.protocol.connection_made(self.transport)

    async def answer(self) -> bytes:
        await until(lambda: self.transport.written)
        return self.transport.written.split(b"\r\n")[0]

    async def end(self) -> None:
        self.protocol.connection_lost(None)
        await asyncio.gather(*self.protocol.tasks)


async def test_requests_on_one_connection_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEADERS_S", 0.2)
    monkeypatch.setattr(http_connection, "REQUEST_S", 0.2)
    connection = Connection()
    for _ in range(3):
        for part in (REQUEST[:5], REQUEST[5:], b"Content-Length: 3\r\n\r\na", b"bc"):
            connection.protocol.data_received(part)
        assert await connection.answer() == b"HTTP/1.1 200 OK"
        connection.transport.written = b""
    await asyncio.sleep(0.5)  # between requests only the keep-alive time counts
    assert not connection.transport.closed
    await connection.end()


@pytest.mark.parametrize("piece", [b"X: " + b"x" * 1000 + b"\r\n", b"x" * 1000])
async def test_headers_without_an_end_are_refused(piece: bytes) -> None:
    connection = Connection()
    connection.protocol.data_received(REQUEST + b"Long: ")
    for _ in range(HEADER_BYTES // 1000 + 2):
        if not connection.transport.closed:
            connection.protocol.data_received(piece)
    assert (await connection.answer()).split()[1] in (b"400", b"431")
    assert connection.transport.closed
    await connection.end()


async def test_one_long_header_in_one_piece_is_refused() -> None:
    connection = Connection()
    connection.protocol.data_received(REQUEST + b"Long: " + b"x" * 2 * HEADER_BYTES + b"\r\n\r\n")
    assert (await connection.answer()).split()[1] == b"400"
    assert connection.transport.closed
    await connection.end()


@pytest.mark.parametrize("sent", [b"", REQUEST[:5], REQUEST + b"Content-Length: 5\r\n\r\nab"])
async def test_half_a_request_is_not_waited_for_without_end(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEADERS_S", 0.05)
    monkeypatch.setattr(http_connection, "REQUEST_S", 0.05)
    connection = Connection()
    if sent:
        connection.protocol.data_received(sent)
    assert await connection.answer() == b"HTTP/1.1 408 Request Timeout"
    assert connection.transport.closed
    await connection.end()
