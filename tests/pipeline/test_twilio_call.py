"""A phone call as Twilio makes it: 20 ms of µ-law at a time, and marks that come back when they were played."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from benchmarks.system import SCRIPTED, System, running_system
from shared.audio import encode_law

Speech = Callable[[str, int], bytes]

FRAME = 160
"""Bytes of 20 ms of µ-law."""
SILENCE = encode_law("ulaw", bytes(2 * FRAME))
SAMPLES_PER_S = 8000


class Phone:
    """The carrier's end of a call: what it hears plays in real time, and marks are echoed as they are reached."""

    def __init__(self, socket: ClientConnection) -> None:
        self.heard = bytearray()
        """µ-law that was really played."""
        self.received = 0
        """Bytes of µ-law that came, played or not."""
        self.clears: list[int] = []
        """How much had been played when a `clear` came."""
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
        """To be said from now on, at the speed of speech."""
        codes = encode_law("ulaw", pcm)
        codes += SILENCE[: -len(codes) % FRAME]
        self._voice.extend(codes[at : at + FRAME] for at in range(0, len(codes), FRAME))

    async def line(self) -> None:
        """Every 20 ms: one frame is heard, one is said."""
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
                    for name in marks:  # Twilio sends back what will not be played, too
                        await self._echo(name)
                case other:
                    raise AssertionError(f"Twilio would end the stream at {other}")
            self._news.set()

    async def until(self, true: Callable[[], bool], timeout_s: float = 15.0) -> None:
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


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", SAMPLES_PER_S)


async def test_a_caller_is_answered_twice(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url, caller="+491234567") as phone:
        for turn in (1, 2):
            phone.speak(bytes(SAMPLES_PER_S) + words)  # half a second of listening, then the next turn
            await phone.until(lambda turn=turn: len(phone.heard) == turn * SAMPLES_PER_S)  # type: ignore[misc]
        marks = [tuple(map(int, name.removeprefix("t").split(":"))) for name in phone.echoed]
        for turn in (1, 2):
            ends = [end for mark_turn, end, clears in marks if (mark_turn, clears) == (turn, 0)]
            # What was played is known to a fifth of a second, up to the last sample.
            assert ends[-1] == SAMPLES_PER_S
            assert all(0 < end - before <= SAMPLES_PER_S // 5 for before, end in pairwise([0, *ends]))
        assert phone.received == len(phone.heard)
        assert not phone.clears


async def test_speech_during_the_reply_silences_the_line(words: bytes) -> None:
    async with running_system({**SCRIPTED, "PARLEY_SCRIPTED_TTS_SECONDS": "8"}) as server, calling(server.url) as phone:
        phone.speak(words)
        await phone.until(lambda: len(phone.heard) > SAMPLES_PER_S // 2)
        spoken_at = len(phone.heard)
        phone.speak(words)
        await phone.until(lambda: bool(phone.clears))
        assert phone.clears[0] - spoken_at < SAMPLES_PER_S  # a second at most, of the eight that were queued
        thrown_away = phone.received - len(phone.heard)
        assert thrown_away > 4 * SAMPLES_PER_S
        heard = len(phone.heard)
        await phone.until(lambda: len(phone.heard) - heard > SAMPLES_PER_S)
        assert phone.echoed[-1].startswith("t2:")
        assert phone.echoed[-1].endswith(":1")


async def test_the_end_of_the_call_ends_the_stream(parley_server: System) -> None:
    target = f"ws{parley_server.url.removeprefix('http')}/phone/twilio"
    async with connect(target, compression=None) as socket:
        await Phone(socket).begin()
        await socket.send(json.dumps({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}}))
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 1000


async def test_what_is_no_call_is_refused(parley_server: System) -> None:
    target = f"ws{parley_server.url.removeprefix('http')}/phone/twilio"
    async with connect(target, compression=None) as socket:
        await Phone(socket).begin(endpoint_ms="soon")
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 1008
        assert "endpoint_ms" in (socket.close_reason or "")


async def test_only_what_twilio_signed_is_a_call() -> None:
    token, public = "12345", "wss://voice.example.com/phone/twilio"
    signature = base64.b64encode(hmac.new(token.encode(), public.encode(), hashlib.sha1).digest()).decode()
    signed = {**SCRIPTED, "PARLEY_TWILIO_AUTH_TOKEN": token, "PARLEY_PUBLIC_URL": public}
    async with running_system(signed) as server:
        target = f"ws{server.url.removeprefix('http')}/phone/twilio"
        for headers in ({}, {"X-Twilio-Signature": signature[::-1]}):
            with pytest.raises(InvalidStatus) as refused:
                await connect(target, additional_headers=headers)
            assert refused.value.response.status_code == 403
        async with connect(target, additional_headers={"X-Twilio-Signature": signature}) as socket:
            await Phone(socket).begin()
