"""A conversation through the official OpenAI SDK."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from tests.support.waiting import HANG_S, until

TAIL_S = 0.8
"""Silence after speech: more than the endpoint."""


class Talk:
    """One conversation, with every event that arrived."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[Any] = []
        self.lost: Close | None = None
        """The close frame that ended the latest connection, where it was not closed with 1000."""
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Raises `ConnectionClosedError` if a session that cannot be resumed is lost."""
        try:
            async for event in self.connection:
                self.events.append(event)
                self._news.set()
        except ConnectionClosedError as error:
            if not self.of("parley.session.resumable"):
                raise
            self.lost = error.rcvd or Close(1006, "")

    def lose_line(self) -> None:
        """The connection is lost: without a close frame, and with what is on its way."""
        self.connection._connection.transport.abort()

    @asynccontextmanager
    async def resumed(self, url: str) -> AsyncIterator[None]:
        """Go on with the session at the system at `url`, which may be another edge."""
        await until(lambda: self.lost)
        token, last = self.of("parley.session.resumable")[0].token, self.events[-1].event_id
        async with (
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client,
            client.realtime.connect(model="parley", extra_query={"resume": "now"}) as self.connection,
            asyncio.TaskGroup() as tasks,
        ):
            listening = tasks.create_task(self.listen())
            event: Any = {"type": "parley.session.resume", "token": token, "last_event_id": last}
            await self.connection.send(event)
            await self.until("parley.session.resumed")
            yield
            await self.connection.close()
            await asyncio.wait([listening], timeout=5)
            listening.cancel()

    async def until(self, kind: str, after: int = 0, timeout_s: float = HANG_S) -> int:
        """Wait for an event of this type. Returns the index of the first from `after` on."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for place in range(after, len(self.events)):
                        if self.events[place].type == kind:
                            return place
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {kind}; seen {self.kinds(after)}") from None

    def kinds(self, after: int = 0) -> list[str]:
        """The types of the events, with repetitions in a row merged."""
        return [kind for kind, _ in groupby(event.type for event in self.events[after:])]

    def of(self, kind: str, after: int = 0) -> list[Any]:
        return [event for event in self.events[after:] if event.type == kind]

    def sound(self, after: int = 0) -> bytes:
        return b"".join(base64.b64decode(event.delta) for event in self.of("response.output_audio.delta", after))

    async def play(self, data: bytes, bytes_per_ms: int) -> None:
        """Send audio in slices of 20 ms, in real time."""
        step, began_s = 20 * bytes_per_ms, time.monotonic()
        for number, start in enumerate(range(0, len(data), step)):
            await asyncio.sleep(began_s + 0.02 * number - time.monotonic())
            audio = base64.b64encode(data[start : start + step]).decode()
            await self.connection.input_audio_buffer.append(audio=audio)

    async def speak(self, pcm: bytes, silence_s: float = TAIL_S) -> None:
        """Speech at 24 kHz, then silence."""
        await self.play(pcm + bytes(int(48_000 * silence_s) & ~1), 48)


@asynccontextmanager
async def talking(url: str, model: str = "parley", key: str = "any", **query: str) -> AsyncIterator[Talk]:
    async with (
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client,
        client.realtime.connect(model=model, extra_query=query) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        talk = Talk(connection)
        listening = tasks.create_task(talk.listen())
        await talk.until("session.created")
        yield talk
        await connection.close()
        await asyncio.wait([listening], timeout=5)
        listening.cancel()
