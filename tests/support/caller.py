"""A caller of `/ws`: speaks in real time, and keeps every message with its time of arrival."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from deploy.client.received import Received
from tests.support.waiting import HANG_S

FRAME = 640
"""Bytes of 20 ms at 16 kHz."""


class Caller:
    """One conversation."""

    def __init__(self, socket: ClientConnection) -> None:
        self.events: list[dict[str, Any]] = []
        self.audio = bytearray()
        self.closed: tuple[int, str] | None = None
        self.received = Received()
        self._socket = socket
        self._news = asyncio.Event()

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def send_raw(self, message: str | bytes) -> None:
        await self._socket.send(message)

    async def speak(self, pcm: bytes, silence_s: float = 0.0) -> None:
        """Play the audio in real time, then silence."""
        pcm += bytes(-len(pcm) % FRAME) + bytes(int(silence_s * 50) * FRAME)
        began_s = time.monotonic()
        for number, at in enumerate(range(0, len(pcm), FRAME)):
            await asyncio.sleep(began_s + number * 0.02 - time.monotonic())
            await self._socket.send(pcm[at : at + FRAME])

    async def until(self, kind: str, timeout_s: float = HANG_S, **fields: Any) -> dict[str, Any]:
        """Wait for the first event of this type with these fields."""

        def match(event: dict[str, Any]) -> bool:
            return event["type"] == kind and all(event.get(name) == value for name, value in fields.items())

        return await self.where(match, timeout_s, f"{kind} {fields}")

    async def where(self, match: Callable[[dict[str, Any]], bool], timeout_s: float, what: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for event in self.events:
                        if match(event):
                            return event
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = [{key: str(value)[:60] for key, value in event.items()} for event in self.events]
            raise AssertionError(f"no {what} within {timeout_s} s; seen {seen}, closed {self.closed}") from None

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            event
            for event in self.events
            if event["type"] == kind and all(event.get(name) == value for name, value in fields.items())
        ]

    def lose_line(self) -> None:
        """The connection is lost: without a close frame, and with what is on its way."""
        self._socket.transport.abort()

    @asynccontextmanager
    async def resumed(self, url: str, **fields: Any) -> AsyncIterator[None]:
        """Go on with the session at the system at `url`, which may be another edge."""
        self._socket = await connect(f"ws{url.removeprefix('http')}/ws?rate=16000", compression=None, max_size=None)
        async with self._socket, asyncio.TaskGroup() as tasks:
            self.closed = None
            self.events = [event for event in self.events if event["type"] != "closed"]
            before = len(self.of("ready"))
            listening = tasks.create_task(self.listen())
            await self.send("start_streaming", **self.received.fields(), **fields)
            await self.where(lambda _: len(self.of("ready")) > before, HANG_S, "ready after the resume")
            yield
            await self._socket.close()
            await asyncio.wait([listening], timeout=5)
            listening.cancel()

    async def listen(self) -> None:
        with suppress(ConnectionClosedError):
            await self._take()
        self.closed = (self._socket.close_code or 0, self._socket.close_reason or "")
        code, reason = self.closed
        self.events.append({"type": "closed", "code": code, "reason": reason, "at_s": time.monotonic()})
        self._news.set()

    async def _take(self) -> None:
        async for message in self._socket:
            if isinstance(message, bytes):
                # As an event too, to keep its order among the others.
                event: dict[str, Any] = {"type": "audio", "offset": len(self.audio) // 2, "pcm": message}
                self.audio += message
                self.received.audio(message)
            else:
                event = json.loads(message)
                self.received.message(event)
            event["at_s"] = time.monotonic()
            self.events.append(event)
            self._news.set()


@asynccontextmanager
async def calling(
    url: str, *, start: bool = True, rate_hz: int = 16_000, agent: str = "", **config: Any
) -> AsyncIterator[Caller]:
    """Connect to the system at `url`, begin a session, hang up at the end."""
    target = f"ws{url.removeprefix('http')}/ws?rate={rate_hz}&agent={agent}"
    async with connect(target, compression=None, max_size=None) as socket:
        caller = Caller(socket)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(caller.listen())
            if start:
                await caller.send("start_streaming", config=config)
                await caller.until("ready")
            yield caller
            await socket.close()
            await asyncio.wait([listening], timeout=5)
            listening.cancel()
