"""An HTTP connection of the edge, with limits on the size of a request's headers and on the time that a request takes to arrive.

uvicorn has neither with httptools: 150 MB of headers were taken on one connection, and half a request kept its descriptor for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_BYTES = 64 * 1024
"""Bytes of the request line and the headers of one request."""
HEADERS_S = 10.0
"""Time for them to arrive, from the beginning of the connection or of the request."""
REQUEST_S = 60.0
"""Time for the whole request to arrive: 13 MB of a voice's recording over a slow line."""


class LimitedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0  # received of the request line and headers; None: they are complete
        self._field_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._allow(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += min(len(data), HEADER_BYTES + 1)
            whole = b"\r\n\r\n" in data
            if self._head_bytes > HEADER_BYTES and not whole:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._field_bytes = 0
        if self._head_bytes is None:
            self._head_bytes = 0
            self._allow(HEADERS_S)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > HEADER_BYTES:
            raise ValueError("the headers are too long")  # the parser stops; the answer is 400

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._allow(REQUEST_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._cancel()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._cancel()
        super().handle_websocket_upgrade()

    def _allow(self, seconds: float) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(seconds, self._refuse, b"408 Request Timeout")

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: bytes) -> None:
        self._cancel()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()
