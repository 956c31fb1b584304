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

from tests.support.waiting import HANG_S

TAIL_S = 0.8
"""Silence after speech: more than the endpoint."""


class Talk:
    """One conversation, with every event that arrived."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[Any] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async for event in self.connection:
            self.events.append(event)
            self._news.set()

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
async def talking(url: str, model: str = "parley", key: str = "any") -> AsyncIterator[Talk]:
    async with (
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client,
        client.realtime.connect(model=model) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        talk = Talk(connection)
        listening = tasks.create_task(talk.listen())
        await talk.until("session.created")
        yield talk
        await connection.close()
        await asyncio.wait([listening], timeout=5)
        listening.cancel()
