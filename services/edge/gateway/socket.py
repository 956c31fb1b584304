"""The WebSocket of a session: uvicorn's implementation, with a path for live audio that bypasses the ASGI queue.

After the handshake, messages go to the session and from it within one turn of the event loop: no task, queue or
flow-control system call per 20 ms of audio. FastAPI still routes, accepts and refuses connections.

All clients share the event loop, so a connection uses it for `TURN_S` at a time and for `SHARE` of the time. What it sends
faster than that waits in its own TCP connection.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from fastapi import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from services.edge.gateway.limits import TokenBucket

UNSENT_LIMIT_BYTES = 4 * 1024 * 1024
"""Unsent bytes above which the client counts as not reading."""
UNREAD_S = 20.0
"""Time in which a client with unsent bytes has to take some of them."""

TURN_S = 0.004
"""CPU time after which a connection lets the others go on."""
SHARE = 0.1
"""Part of the CPU time that a connection may use in the long run. A live caller uses 0.003."""
BURST_S = 0.25
"""CPU time that it may use at once: more than half a minute of audio, or a history of some hundred messages."""
FLOOD_S = 30.0
"""A connection that was over its share for this long is closed."""
LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
"""Realtime allows 15 MiB of base64 audio in one `input_audio_buffer.append`."""
MAX_FRAGMENTS = 4096
"""Frames of one message. The size of a message does not limit them: they may be empty."""
PIECE_BYTES = 2048
"""Bytes that are parsed between two looks at the clock: at most 340 messages, 4 ms."""

Sink = Callable[[str | bytes], None]

_EXTENSION = "parley.socket"


class DirectWebSocket(WebSocketsSansIOProtocol):
    """A connection that can pass its messages to a callback instead of the ASGI queue."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink: Sink | None = None
        self._share = TokenBucket(SHARE, BURST_S, self.loop.time())
        self._unread = b""  # received, and not parsed yet
        self._waiting: asyncio.TimerHandle | None = None  # nothing is read until it fires
        self._flooding_since_s = 0.0
        self._taken = self._written = 0  # bytes that the client took, of those that were written
        self._taken_at_s = 0.0

    async def run_asgi(self) -> None:
        # Handshakes pass one by one: 500 at once would keep the event loop from all sessions for seconds.
        async with cast("asyncio.Lock", self.app_state.setdefault("handshakes", asyncio.Lock())):
            await asyncio.sleep(0)
        cast("dict[str, Any]", self.scope["extensions"])[_EXTENSION] = self
        await super().run_asgi()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # refused with an answer; uvicorn would log an error for each of them

    def attach(self, sink: Sink, largest: int) -> None:
        """Pass every message to `sink` from now on, beginning with those in the queue. `largest`: bytes of a message."""
        self.conn.max_message_size = largest
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
            if self._waiting is None:
                self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if self._waiting is None:
            self._read_on()

    def _read_on(self) -> None:
        """Parse what has arrived, for one turn."""
        paused, self._waiting = self._waiting is not None, None
        data, at, began_s = self._unread, 0, time.thread_time()
        spent_s = 0.0
        while at < len(data) and spent_s < TURN_S and not self.transport.is_closing():
            super().data_received(data if len(data) <= PIECE_BYTES else data[at : at + PIECE_BYTES])
            at += PIECE_BYTES
            spent_s = time.thread_time() - began_s
        self._unread = data[at:]
        now_s = self.loop.time()
        wait_s = self._share.spend(spent_s, now_s)
        if self.transport.is_closing():
            self._unread = b""
        elif self._unread or wait_s:
            self.transport.pause_reading()
            self._waiting = self.loop.call_later(wait_s, self._read_on)
            self._note_flood(now_s if wait_s else 0.0)
        else:
            self._flooding_since_s = 0.0
            if paused and not self.read_paused:  # uvicorn's own: the app has not taken its messages
                self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(1009, f"a message has at most {MAX_FRAGMENTS} fragments")

    def _fail(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()

    def _note_flood(self, now_s: float) -> None:
        """Close the connection if it has been over its share for `FLOOD_S`. `now_s`: 0 if it is within its share."""
        if not now_s or not self._flooding_since_s:
            self._flooding_since_s = now_s
        elif now_s - self._flooding_since_s > FLOOD_S:
            self._fail(1008, "more messages than one client may send")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

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
        if not self._reads():
            return False
        try:
            if isinstance(message, bytes):
                self.conn.send_binary(message)
            else:
                self.conn.send_text(message.encode())
        except InvalidState:
            return True
        data = b"".join(self.conn.data_to_send())
        self._written += len(data)
        self.transport.write(data)
        return True

    def _reads(self) -> bool:
        """Whether the client takes what is sent to it."""
        unsent = self.transport.get_write_buffer_size()
        if unsent > UNSENT_LIMIT_BYTES:
            return False
        now_s, taken = self.loop.time(), self._written - unsent
        if not unsent or taken > self._taken:
            self._taken, self._taken_at_s = taken, now_s
        return now_s - self._taken_at_s < UNREAD_S


def socket_of(websocket: WebSocket) -> DirectWebSocket:
    return cast("DirectWebSocket", websocket.scope["extensions"][_EXTENSION])
