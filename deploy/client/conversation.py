"""A client of `/ws`: sends speech in real time and collects the replies.

It uses nothing but the public protocol, and prints nothing.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from deploy.client.line import CONNECT_S, Line, SessionGone
from deploy.monitor.client import KEY_ASKED
from shared.protocol.session import RATE_HZ

FRAME_MS = 20
FRAME_BYTES = 2 * RATE_HZ * FRAME_MS // 1000
QUIET_S = 1.5
"""The conversation ends after this silence on both sides, added to the endpoint, without a turn in progress."""
REPLY_S = 60.0
"""A turn that has no end after this time since the last speech is an error."""


class TalkFailed(RuntimeError):
    """The conversation could not start, or broke off. The message says why."""


@dataclass(slots=True)
class Turn:
    """One turn, as reported by the server."""

    turn: int
    said: str = ""
    reply: str = ""
    status: str = ""
    """How the reply ended; empty until then."""
    reason: str = ""
    """Why it failed, or was cut."""
    marks: dict[str, float] = field(default_factory=dict)
    """Times by name, in ms since the end of speech; server's clock."""
    spoken: bool = True
    """The person spoke it; for other turns, times count from the request."""
    segments: list[dict[str, Any]] = field(default_factory=list)
    """Where the time until the first audio went: `name`, `begin_ms`, `end_ms`."""


class Track:
    """The audio that a loudspeaker would play, s16le at 16 kHz. Times are seconds since the first sample sent."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.reply_bytes = 0
        """Audio of the current reply that was received and not discarded."""
        self.reply = bytearray()
        """All audio of the current reply."""
        self._paused = b""  # audio that a pause left unplayed

    @property
    def end_s(self) -> float:
        return len(self.pcm) / 2 / RATE_HZ

    def playing(self, now_s: float) -> bool:
        """Whether audio is being played, or is paused."""
        return bool(self._paused) or self.end_s > now_s

    def played_s(self, now_s: float) -> float:
        """Seconds of the current reply that were played."""
        left = len(self._paused) + max(0, len(self.pcm) - _bytes(now_s))
        return max(0, self.reply_bytes - left) / 2 / RATE_HZ

    def add(self, pcm: bytes, now_s: float) -> None:
        """Play audio now, or after the audio that is still to be played."""
        self.pcm.extend(bytes(max(0, _bytes(now_s) - len(self.pcm))))
        self.pcm.extend(pcm)

    def clear(self, now_s: float) -> None:
        """Discard the audio that is not played yet."""
        self.reply_bytes = 2 * round(self.played_s(now_s) * RATE_HZ)
        del self.pcm[_bytes(now_s) :]
        self._paused = b""

    def pause(self, now_s: float) -> None:
        """Keep the audio that is not played yet for `resume`."""
        self._paused = bytes(self.pcm[_bytes(now_s) :])
        del self.pcm[_bytes(now_s) :]

    def resume(self, now_s: float) -> None:
        paused, self._paused = self._paused, b""
        self.add(paused, now_s)


def _bytes(seconds: float) -> int:
    """Bytes of audio in this time; always whole samples."""
    return 2 * round(seconds * RATE_HZ)


class Conversation:
    """The turns of a conversation and the audio of the replies.

    It is fed with the server's messages, each with its time in seconds since the first sample sent.
    """

    def __init__(self) -> None:
        self.turns: dict[int, Turn] = {}
        self.track = Track()
        self.endpoint_s = 0.5
        self.errors: list[str] = []
        self._speaking = False
        self._open: set[int] = set()
        self._done = 0  # the newest turn that is over; all before it are over, too
        self._last_s = 0.0

    def idle_since_s(self) -> float | None:
        """Time since which both sides are silent and no turn is in progress; None while one of these is not true."""
        return None if self._speaking or self._open else max(self._last_s, self.track.end_s)

    def take_audio(self, pcm: bytes, now_s: float) -> None:
        """Take reply audio, s16le at 16 kHz."""
        self._last_s = now_s
        self.track.reply_bytes += len(pcm)
        self.track.reply += pcm
        self.track.add(pcm, now_s)

    def read(self, message: dict[str, Any], now_s: float) -> None:
        self._last_s = now_s
        kind = message.get("type")
        number = message.get("turn") or 0
        turn = self.turns.setdefault(number, Turn(number)) if number else Turn(0)
        if kind == "vad_status":
            self._speaking = message["is_speaking"]
        elif kind == "transcript":
            turn.said = message["text"]
        elif kind == "processing_started" and number > self._done:  # a later turn may have overtaken it
            self._open.add(number)
        elif kind == "reply_started":
            self.track.reply_bytes = 0
            self.track.reply = bytearray()
        elif kind == "model_response":
            turn.reply += message["text"]
        elif kind == "reply_done":
            turn.status, turn.reason = message["status"], message.get("reason", "")
            self._done = max(self._done, number)
            self._open = {one for one in self._open if one > number}
        elif kind == "interrupt":
            self.track.clear(now_s)
        elif kind == "pause":
            self.track.pause(now_s)
        elif kind == "resume":
            self.track.resume(now_s)
        elif kind == "timing":
            turn.marks, turn.spoken, turn.segments = message["marks"], message["spoken"], message["segments"]
        elif kind == "error":
            self.errors.append(f"{message['code']}: {message['message']}")
        elif kind == "ready":
            self.endpoint_s = message.get("config", {}).get("endpoint_ms", 500) / 1000


OnMessage = Callable[[dict[str, Any], Conversation], None]
"""Called with each text message, after the conversation has taken it."""
Report = Callable[[Conversation, float], dict[str, Any] | None]
"""Called after each frame with the time. Returns a message for the server, or None."""


def stream_url(url: str, agent: str = "") -> str:
    """The URL of `/ws`, from any URL of the server. `agent`: an id; empty: the default agent."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    scheme = {"https": "wss", "wss": "wss"}.get(parts.scheme, "ws")
    path = parts.path if parts.path.endswith("/ws") else parts.path.rstrip("/") + "/ws"
    query = urlencode({"rate": RATE_HZ} | ({"agent": agent} if agent else {}))
    return urlunsplit((scheme, parts.netloc, path, query, ""))


class Speech(Protocol):
    """Audio of the caller, frame by frame. It can react to the replies."""

    def frame(self) -> bytes:
        """The next 20 ms, s16le at 16 kHz."""
        ...

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        """End of the last sound, in seconds since the first sample; None while more is to come."""
        ...


class Recording:
    """A recording, followed by silence."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm, self._sent = pcm, 0

    def frame(self) -> bytes:
        frame = self._pcm[self._sent : self._sent + FRAME_BYTES].ljust(FRAME_BYTES, b"\0")
        self._sent += FRAME_BYTES
        return frame

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        length_s = len(self._pcm) / 2 / RATE_HZ
        return length_s if now_s >= length_s else None


async def converse(
    speech: Speech,
    url: str,
    on_message: OnMessage = lambda message, conversation: None,
    report: Report = lambda conversation, now_s: None,
    *,
    agent: str = "",
    config: Mapping[str, Any] | None = None,
) -> Conversation:
    """Speak in real time, then listen until the last reply has been played.

    `agent`: an id; empty: the default agent. `config`: settings of the session that differ from the agent's.

    A connection that is lost is made again, and the conversation goes on.

    Raises:
        TalkFailed: the server does not answer, refuses, closes the connection, or leaves a turn without an end.
    """
    address = stream_url(url, agent)
    line = Line(address, config or {})
    try:
        return await _converse(speech, line, on_message, report)
    except SessionGone as error:
        raise TalkFailed(f"{address} broke off the conversation: {error}") from None
    except InvalidStatus as error:
        if error.response.status_code == HTTPStatus.UNAUTHORIZED:
            raise TalkFailed(f"{address} {KEY_ASKED}") from None
        body = (error.response.body or b"").decode(errors="replace").strip()[:500]
        raise TalkFailed(f"{address} refused: HTTP {error.response.status_code} {body}".rstrip()) from None
    except ConnectionClosed as error:
        close = error.rcvd
        reason = f"{close.code} {close.reason}".rstrip() if close else "connection lost"
        raise TalkFailed(f"{address} ended the conversation: {reason}") from None
    except TimeoutError:
        raise TalkFailed(f"{address} did not answer within {CONNECT_S:g} s") from None
    except (OSError, WebSocketException) as error:
        raise TalkFailed(f"no Parley answers at {address}: {error}") from None


async def _converse(speech: Speech, line: Line, on_message: OnMessage, report: Report) -> Conversation:
    conversation = Conversation()
    ready = await line.open()
    conversation.read(ready, 0.0)
    if ready.get("type") != "ready":
        raise TalkFailed(f"the server refused: {'; '.join(conversation.errors) or ready}")
    on_message(ready, conversation)
    loop = asyncio.get_running_loop()
    start_s = loop.time()

    async def listen() -> None:
        async for received in line.messages():
            now_s = loop.time() - start_s
            if isinstance(received, bytes):
                conversation.take_audio(received, now_s)
            else:
                message = json.loads(received)
                conversation.read(message, now_s)
                on_message(message, conversation)

    async def speak() -> None:
        frames = 0
        while not is_over(conversation, loop.time() - start_s, speech):
            frame = speech.frame()
            frames += 1
            # As from a microphone: a frame is sent when its last sample has been spoken.
            await asyncio.sleep(start_s + frames * FRAME_MS / 1000 - loop.time())
            await line.send(frame)
            if (message := report(conversation, loop.time() - start_s)) is not None:
                await line.send(json.dumps(message))

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            await speak()
            listening.cancel()
    except* (TalkFailed, ConnectionClosed, SessionGone) as errors:
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure
    with suppress(ConnectionClosed):
        await line.send(json.dumps({"type": "stop_streaming"}))
    await line.close()
    return conversation


def is_over(conversation: Conversation, now_s: float, speech: Speech) -> bool:
    """Whether the last reply has been played, and nothing more is to be spoken. Raises `TalkFailed` if a turn has no end."""
    spoken_s = speech.spoken_until(conversation, now_s)
    if spoken_s is None:
        return False
    idle_s = conversation.idle_since_s()
    if idle_s is None:
        if now_s > max(spoken_s, conversation.track.end_s) + REPLY_S:
            raise TalkFailed(f"a turn has no end {REPLY_S:g} s after the last speech")
        return False
    return now_s - max(idle_s, spoken_s) > conversation.endpoint_s + QUIET_S
