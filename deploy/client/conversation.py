"""A client of the lean protocol: speaks a recording in real time, and keeps what comes back.

It is a client like any other; nothing here knows how the server works, and nothing is printed.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

RATE_HZ = 16_000
FRAME_MS = 20
FRAME_BYTES = 2 * RATE_HZ * FRAME_MS // 1000
CONNECT_S = 10.0
QUIET_S = 1.5
"""The conversation is over when for so long, on top of the endpoint, nobody speaks and no turn is in progress."""
REPLY_S = 60.0
"""How long after the recording's end a reply may take until it counts as missing."""


class TalkFailed(RuntimeError):
    """There was no conversation, or it broke off; the message is for the person at the terminal."""


@dataclass(slots=True)
class Turn:
    """One turn as the client came to know it."""

    turn: int
    said: str = ""
    reply: str = ""
    status: str = ""
    """How the reply ended; empty while it has not."""
    marks: dict[str, float] = field(default_factory=dict)
    """Milliseconds since the end of speech, by name, from the server's clock."""


class Track:
    """The reply as a loudspeaker plays it, from the first sample that was sent to the server on."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self._held = b""  # what a pause left unplayed

    @property
    def end_s(self) -> float:
        """Until when there is something to play."""
        return len(self.pcm) / 2 / RATE_HZ

    def sounding(self, now_s: float) -> bool:
        """Something is being played, or is paused."""
        return bool(self._held) or self.end_s > now_s

    def add(self, pcm: bytes, now_s: float) -> None:
        """It plays at once, or after what is still to be played."""
        self.pcm.extend(bytes(max(0, _bytes(now_s) - len(self.pcm))))
        self.pcm.extend(pcm)

    def silence(self, now_s: float) -> None:
        """What was not played by now is not played at all."""
        del self.pcm[_bytes(now_s) :]
        self._held = b""

    def pause(self, now_s: float) -> None:
        """What was not played by now waits for `resume`."""
        self._held = bytes(self.pcm[_bytes(now_s) :])
        del self.pcm[_bytes(now_s) :]

    def resume(self, now_s: float) -> None:
        """It goes on where it stopped."""
        held, self._held = self._held, b""
        self.add(held, now_s)


def _bytes(seconds: float) -> int:
    return 2 * round(seconds * RATE_HZ)


class Conversation:
    """What was said on both sides. Fed with the server's messages and the time of each since the first sample."""

    def __init__(self) -> None:
        self.turns: dict[int, Turn] = {}
        self.track = Track()
        self.endpoint_s = 0.5
        self.errors: list[str] = []
        self._speaking = False
        self._open: set[int] = set()
        self._last_s = 0.0

    def idle_since_s(self) -> float | None:
        """Since when nobody speaks and nothing is awaited; None: not so."""
        return None if self._speaking or self._open else max(self._last_s, self.track.end_s)

    def hear(self, pcm: bytes, now_s: float) -> None:
        """Reply audio, s16le at 16 kHz."""
        self._last_s = now_s
        self.track.add(pcm, now_s)

    def read(self, message: dict[str, Any], now_s: float) -> None:
        """A text message, decoded."""
        self._last_s = now_s
        kind = message.get("type")
        number = message.get("turn") or 0
        turn = self.turns.setdefault(number, Turn(number)) if number else Turn(0)
        if kind == "vad_status":
            self._speaking = message["is_speaking"]
        elif kind == "transcript":
            turn.said = message["text"]
        elif kind == "processing_started":
            self._open.add(number)
        elif kind == "model_response":
            turn.reply += message["text"]
        elif kind == "reply_done":
            turn.status = message["status"]
            self._open = {one for one in self._open if one > number}
        elif kind == "interrupt":
            self.track.silence(now_s)
        elif kind == "pause":
            self.track.pause(now_s)
        elif kind == "resume":
            self.track.resume(now_s)
        elif kind == "timing":
            turn.marks = message["marks"]
        elif kind == "error":
            self.errors.append(f"{message['code']}: {message['message']}")
        elif kind == "ready":
            self.endpoint_s = message.get("config", {}).get("endpoint_ms", 500) / 1000


OnMessage = Callable[[dict[str, Any], Conversation], None]


def stream_url(url: str) -> str:
    """Where the lean protocol is spoken, from any URL of the server."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    scheme = {"https": "wss", "wss": "wss"}.get(parts.scheme, "ws")
    path = parts.path if parts.path.endswith("/ws") else parts.path.rstrip("/") + "/ws"
    return urlunsplit((scheme, parts.netloc, path, f"rate={RATE_HZ}", ""))


class Voice(Protocol):
    """What the caller says, frame by frame; it may answer to what it hears."""

    def frame(self) -> bytes:
        """The next 20 ms, s16le at 16 kHz."""
        ...

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        """When the last thing was said, in seconds since the first sample; None while there is more to say."""
        ...


class Recording:
    """A recording, and silence after it."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm, self._sent = pcm, 0

    def frame(self) -> bytes:
        frame = self._pcm[self._sent : self._sent + FRAME_BYTES].ljust(FRAME_BYTES, b"\0")
        self._sent += FRAME_BYTES
        return frame

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        length_s = len(self._pcm) / 2 / RATE_HZ
        return length_s if now_s >= length_s else None


async def converse(voice: Voice, url: str, on_message: OnMessage = lambda message, conversation: None) -> Conversation:
    """Speak in real time, then listen until the last reply has been played.

    Raises:
        TalkFailed: the server is not there, refuses, hangs up, or leaves a turn without a reply.
    """
    address = stream_url(url)
    try:
        # Audio does not compress, and a voice on this machine needs no proxy.
        async with connect(address, open_timeout=CONNECT_S, compression=None, proxy=None, max_size=None) as socket:
            return await _converse(voice, socket, on_message)
    except InvalidStatus as error:
        body = (error.response.body or b"").decode(errors="replace").strip()[:500]
        raise TalkFailed(f"{address} refuses: HTTP {error.response.status_code} {body}".rstrip()) from None
    except ConnectionClosed as error:
        said = error.rcvd
        reason = f"{said.code} {said.reason}".rstrip() if said else "the line broke"
        raise TalkFailed(f"{address} ended the conversation: {reason}") from None
    except TimeoutError:
        raise TalkFailed(f"{address} does not answer within {CONNECT_S:g} s") from None
    except (OSError, WebSocketException) as error:
        raise TalkFailed(f"no Parley answers at {address}: {error}") from None


async def _converse(voice: Voice, socket: ClientConnection, on_message: OnMessage) -> Conversation:
    conversation = Conversation()
    await socket.send(json.dumps({"type": "start_streaming"}))
    async with asyncio.timeout(CONNECT_S):
        ready = json.loads(await socket.recv())
    conversation.read(ready, 0.0)
    if ready.get("type") != "ready":
        raise TalkFailed(f"the server refuses: {'; '.join(conversation.errors) or ready}")
    on_message(ready, conversation)
    loop = asyncio.get_running_loop()
    start_s = loop.time()

    async def listen() -> None:
        async for received in socket:
            now_s = loop.time() - start_s
            if isinstance(received, bytes):
                conversation.hear(received, now_s)
            else:
                message = json.loads(received)
                conversation.read(message, now_s)
                on_message(message, conversation)

    async def speak() -> None:
        frames = 0
        while not _over(conversation, loop.time() - start_s, voice):
            frame = voice.frame()
            frames += 1
            # A microphone hands over a frame when its last sample was spoken.
            await asyncio.sleep(start_s + frames * FRAME_MS / 1000 - loop.time())
            await socket.send(frame)

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            await speak()
            listening.cancel()
    except* (TalkFailed, ConnectionClosed) as errors:
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure
    with suppress(ConnectionClosed):
        await socket.send(json.dumps({"type": "stop_streaming"}))
    return conversation


def _over(conversation: Conversation, now_s: float, voice: Voice) -> bool:
    said_s = voice.spoken_until(conversation, now_s)
    if said_s is None:
        return False
    idle_s = conversation.idle_since_s()
    if idle_s is None:
        if now_s > max(said_s, conversation.track.end_s) + REPLY_S:
            raise TalkFailed(f"a turn is still without an end {REPLY_S:g} s after the last word")
        return False
    return now_s - max(idle_s, said_s) > conversation.endpoint_s + QUIET_S
