"""The WebSocket of a session: uvicorn's implementation, with a path for live audio that bypasses the ASGI queue.

After the handshake, messages go to the session and from it within one turn of the event loop: no task, queue or
flow-control system call per 20 ms of audio. FastAPI still routes, accepts and refuses connections.
"""

from collections.abc import Callable
from typing import Any, cast

from fastapi import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

UNSENT_LIMIT_BYTES = 4 * 1024 * 1024
"""Unsent bytes above which the client counts as not reading."""

Sink = Callable[[str | bytes], None]

_EXTENSION = "parley.socket"


class DirectWebSocket(WebSocketsSansIOProtocol):
    """A connection that can pass its messages to a callback instead of the ASGI queue."""

    _sink: Sink | None = None

    async def run_asgi(self) -> None:
        cast("dict[str, Any]", self.scope["extensions"])[_EXTENSION] = self
        await super().run_asgi()

    def attach(self, sink: Sink) -> None:
        """Pass every message to `sink` from now on, beginning with those in the queue."""
        queued = []
        while not self.queue.empty():
            queued.append(self.queue.get_nowait())
        self._sink = sink
        for event in queued:
            if event["type"] == "websocket.receive":
                text = event.get("text")
                sink(text if text is not None else event["bytes"] or b"")
            else:
                self.queue.put_nowait(event)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        if self._sink is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self._sink(data)
            return
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self._sink(text)

    def send_now(self, message: str | bytes) -> bool:
        """Send without waiting. Returns False, and sends nothing, if the client is not reading."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return True
        if self.transport.get_write_buffer_size() > UNSENT_LIMIT_BYTES:
            return False
        try:
            if isinstance(message, bytes):
                self.conn.send_binary(message)
            else:
                self.conn.send_text(message.encode())
        except InvalidState:
            return True
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True


def socket_of(websocket: WebSocket) -> DirectWebSocket:
    return cast("DirectWebSocket", websocket.scope["extensions"][_EXTENSION])
