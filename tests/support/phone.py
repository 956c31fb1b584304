"""The carrier's end of a phone call, as with Twilio: 20 ms of µ-law at a time, and marks that are echoed when played."""

import asyncio
import base64
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from shared.audio.pcm import encode_law
from tests.support.waiting import HANG_S

FRAME = 160
"""Bytes of 20 ms of µ-law."""
SILENCE = encode_law("ulaw", bytes(2 * FRAME))
SAMPLES_PER_S = 8000


class Phone:
    """The carrier's end of a call: plays received audio in real time, and echoes marks when they are reached."""

    def __init__(self, socket: ClientConnection) -> None:
        self.heard = bytearray()
        """µ-law that was played."""
        self.received = 0
        """Bytes of µ-law received, played or not."""
        self.clears: list[int] = []
        """Bytes played when a `clear` arrived."""
        self.echoed: list[str] = []
        self._socket = socket
        self._queue: deque[bytes | str] = deque()
        self._voice: deque[bytes] = deque()
        self._chunk = 0
        self._news = asyncio.Event()

    async def _send(self, event: str, content: Any) -> None:
        self._chunk += 1
        await self._socket.send(
            json.dumps({"event": event, "sequenceNumber": str(self._chunk), "streamSid": "MZ1", event: content})
        )

    async def begin(self, **parameters: str) -> None:
        await self._socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        media = {"encoding": "audio/x-mulaw", "sampleRate": SAMPLES_PER_S, "channels": 1}
        start = {
            "streamSid": "MZ1",
            "accountSid": "AC1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "customParameters": parameters,
            "mediaFormat": media,
        }
        await self._send("start", start)

    def speak(self, pcm: bytes) -> None:
        """Queue audio to send in real time."""
        codes = encode_law("ulaw", pcm)
        codes += SILENCE[: -len(codes) % FRAME]
        self._voice.extend(codes[at : at + FRAME] for at in range(0, len(codes), FRAME))

    async def line(self) -> None:
        """Every 20 ms, play one frame and send one."""
        began_s, number = time.monotonic(), 0
        while True:
            await asyncio.sleep(began_s + 0.02 * number - time.monotonic())
            number += 1
            await self._play()
            voice = self._voice.popleft() if self._voice else SILENCE
            payload = base64.b64encode(voice).decode()
            media = {"track": "inbound", "chunk": str(number), "timestamp": str(20 * number), "payload": payload}
            await self._send("media", media)

    async def _play(self) -> None:
        room = FRAME
        while self._queue and (room or isinstance(self._queue[0], str)):
            item = self._queue.popleft()
            if isinstance(item, str):
                await self._echo(item)
                continue
            self.heard += item[:room]
            if len(item) > room:
                self._queue.appendleft(item[room:])
            room -= min(room, len(item))
        self._news.set()

    async def _echo(self, name: str) -> None:
        self.echoed.append(name)
        await self._send("mark", {"name": name})

    async def listen(self) -> None:
        async for message in self._socket:
            body = json.loads(message)
            assert body["streamSid"] == "MZ1"
            match body["event"]:
                case "media":
                    codes = base64.b64decode(body["media"]["payload"], validate=True)
                    self.received += len(codes)
                    self._queue.append(codes)
                case "mark":
                    self._queue.append(body["mark"]["name"])
                case "clear":
                    self.clears.append(len(self.heard))
                    marks = [item for item in self._queue if isinstance(item, str)]
                    self._queue.clear()
                    for name in marks:  # Twilio also echoes marks that will not be played
                        await self._echo(name)
                case other:
                    raise AssertionError(f"Twilio would end the stream at {other}")
            self._news.set()

    async def until(self, true: Callable[[], bool], timeout_s: float = HANG_S) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not true():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            state = f"received {self.received}, heard {len(self.heard)}, clears {self.clears}, marks {self.echoed}"
            raise AssertionError(f"it did not come to that: {state}") from None


@asynccontextmanager
async def calling(url: str, **parameters: str) -> AsyncIterator[Phone]:
    async with connect(f"ws{url.removeprefix('http')}/phone/twilio", compression=None) as socket:
        phone = Phone(socket)
        await phone.begin(**parameters)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(phone.listen()), tasks.create_task(phone.line())]
            yield phone
            for task in running:
                task.cancel()
