"""The WebSocket under a session: uvicorn's, with the ASGI queue taken out of the way of live audio.

After the handshake, messages go straight to the session and out of it in the same turn of the event loop:
no task, queue or flow-control system call for each 20 ms of sound. FastAPI still routes, accepts and refuses.
"""

from collections.abc import Callable
from typing import Any, cast

from fastapi import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

UNSENT_LIMIT_BYTES = 4 * 1024 * 1024
"""A client that has not taken so much of what it was sent is not reading."""

Sink = Callable[[str | bytes], None]

_EXTENSION = "parley.socket"


class DirectWebSocket(WebSocketsSansIOProtocol):
    """A connection that can hand its messages over without asking a task to fetch them."""

    _sink: Sink | None = None

    async def run_asgi(self) -> None:
        cast("dict[str, Any]", self.scope["extensions"])[_EXTENSION] = self
        await super().run_asgi()

    def attach(self, sink: Sink) -> None:
        """Give every message to `sink`, from the next one on, and those that wait already."""
        waiting = []
        while not self.queue.empty():
            waiting.append(self.queue.get_nowait())
        self._sink = sink
        for event in waiting:
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
        """Send without waiting. False if the client does not take what it was sent; nothing was sent then."""
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
    """The connection under a WebSocket."""
    return cast("DirectWebSocket", websocket.scope["extensions"][_EXTENSION])
