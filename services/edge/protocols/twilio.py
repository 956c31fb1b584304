"""A phone call over Twilio Media Streams: JSON text with base64 µ-law at 8 kHz, both ways.

It owns the messages, the position up to which the caller heard the reply, and the check of Twilio's signature. Pure.
Twilio's protocol has no error message, so a wrong message closes the connection. Twilio accepts only `media`, `mark`
and `clear`, and ends the stream at any other message.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, Field, TypeAdapter

from services.edge.client.actions import Action, Audio, Close, Played, Start, Stop
from services.edge.client.events import Event, Interrupt, Pause, ReplyAudio, Resume
from services.edge.protocols.fields import Allowed, BadField, checked
from services.edge.protocols.session_settings import parsed_settings, with_settings
from shared.agents.agent import Agent, Agents, UnknownAgent
from shared.audio.pcm import LAW_RATE_HZ, decode_law, encode_law

MESSAGE_BYTES = 1600
"""µ-law bytes of one `media` message: 200 ms. A mark follows each, so the played position is known to 200 ms, and a
`clear` waits for at most one of them to be written."""

MAX_PAYLOAD_CHARS = 64 * 1024
"""Characters of base64 in one `media` message. Twilio sends 160 bytes of audio (20 ms) at a time."""

_MARK = re.compile(r"t(?P<turn>[0-9]{1,18}):(?P<samples>[0-9]{1,18}):(?P<clears>[0-9]{1,18})")
_EVENTS = ("start", "media", "mark", "stop")


class MediaFormat(BaseModel):
    """The only format of Twilio Media Streams."""

    encoding: Literal["audio/x-mulaw"]
    rate_hz: Literal[8000] = Field(alias="sampleRate")


class StartMessage(BaseModel):
    stream: Annotated[str, Allowed("an id of 1 to 100 characters", min_length=1, max_length=100)] = Field(
        alias="streamSid"
    )
    media: MediaFormat = Field(alias="mediaFormat")
    parameters: Any = Field(None, alias="customParameters")


_START = TypeAdapter(StartMessage)


def valid_signature(token: str, url: str, header: str | None) -> bool:
    """Whether `X-Twilio-Signature` was made for this `wss://host/path` with this auth token.

    base64(HMAC-SHA1(token, url)), over the URL as it stands in the TwiML; Twilio signs it with or without the port.
    """
    given = (header or "").encode()
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    bare = host.removesuffix(":443")
    matched = False
    for candidate in (host, bare, f"{bare}:443"):
        signed = f"{scheme}{separator}{candidate}{slash}{path}".encode()
        expected = base64.b64encode(hmac.new(token.encode(), signed, hashlib.sha1).digest())
        matched |= hmac.compare_digest(expected, given)
    return matched


class TwilioCodec:
    """One phone call."""

    rate_hz = LAW_RATE_HZ
    largest_message = 64 * 1024  # Twilio's media messages have about 300
    starts_with = None
    can_pause = False
    resumable = None
    shows_failures = False

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._stream = ""
        self._closed = False
        self._last_chunk = 0
        # Twilio also returns marks that a `clear` dropped, as if they had been played. They carry an old number.
        self._clears = 0
        self._cleared = False  # the reply is paused, and the carrier's queue is cleared

    # -- the carrier's messages ---------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> Sequence[Action]:
        """The caller's actions; a message that Twilio would not send closes the connection."""
        if self._closed:
            return ()
        if not isinstance(message, str):
            return self._close(1008, "binary message")
        try:
            body = orjson.loads(message)
        except orjson.JSONDecodeError:
            return self._close(1008, "not JSON")
        kind = body.get("event") if type(body) is dict else None
        if type(kind) is not str:
            return self._close(1008, "a message without event")
        if kind not in _EVENTS:
            return ()  # `connected`, `dtmf`, and events that Twilio may add
        if not self._stream and kind != "start":
            return self._close(1008, f"{kind} before start")
        inner = body.get(kind)
        if type(inner) is not dict:
            return self._close(1008, f"{kind} without its content")
        match kind:
            case "media":
                return self._media(inner)
            case "mark":
                return self._mark(inner)
            case "start":
                return self._start(inner)
            case _:
                return (Stop(), *self._close(1000, "the call ended"))

    def _close(self, code: int, reason: str) -> tuple[Action, ...]:
        self._closed = True
        # A close frame holds 123 bytes of reason.
        return (Close(code, reason.encode()[:123].decode(errors="ignore")),)

    def _start(self, content: dict[str, Any]) -> tuple[Action, ...]:
        if self._stream:
            return self._close(1008, "second start")
        try:
            start = checked(_START, content, "start")
            # A `<Parameter>` chooses the agent, or changes a setting of the session. Other parameters are ignored.
            parameters = start.parameters if type(start.parameters) is dict else {}
            changes = parsed_settings(parameters, "customParameters")
            settings = with_settings(self._agent(parameters).settings, changes, "customParameters")
        except (BadField, UnknownAgent) as error:
            return self._close(1008, str(error))
        self._stream = start.stream
        return (Start(settings),)

    def _agent(self, parameters: Mapping[str, Any]) -> Agent:
        """The agent that the call is for: by its id, or by the number that was called.

        Raises:
            UnknownAgent: there is no agent with this id.
        """
        if id_ := parameters.get("agent"):
            return self._agents.named(str(id_))
        return self._agents.called(str(parameters.get("to", "")))

    def _media(self, media: dict[str, Any]) -> tuple[Action, ...]:
        if media.get("track", "inbound") != "inbound":
            return ()
        chunk, payload = _whole(media.get("chunk")), media.get("payload")
        if type(payload) is not str or len(payload) > MAX_PAYLOAD_CHARS:
            return self._close(1008, f"media.payload is not a string of at most {MAX_PAYLOAD_CHARS} characters")
        try:
            codes = binascii.a2b_base64(payload, strict_mode=True)
        except ValueError:
            return self._close(1008, "media.payload is not base64")
        if chunk is not None:
            # A repeated or late chunk would sound like a stutter. A missing chunk is not waited for.
            if chunk <= self._last_chunk:
                return ()
            self._last_chunk = chunk
        return (Audio(decode_law("ulaw", codes)),) if codes else ()

    def _mark(self, mark: dict[str, Any]) -> tuple[Action, ...]:
        name = mark.get("name")
        found = _MARK.fullmatch(name) if type(name) is str else None
        if found is None or int(found["clears"]) != self._clears:
            return ()
        return (Played(int(found["turn"]), int(found["samples"]) * 1000 // LAW_RATE_HZ),)

    # -- messages to the carrier --------------------------------------------------------------------------------

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """The reply's audio with its marks, and the end of it; other events have no message."""
        if not self._stream or self._closed:
            return ()
        match event:
            case ReplyAudio(turn, offset, pcm):
                codes = encode_law("ulaw", pcm)
                messages: list[str] = []
                for start in range(0, len(codes), MESSAGE_BYTES):
                    piece = codes[start : start + MESSAGE_BYTES]
                    end = offset + start + len(piece)
                    messages.append(self._message("media", {"payload": base64.b64encode(piece).decode()}))
                    messages.append(self._message("mark", {"name": f"t{turn}:{end}:{self._clears}"}))
                return messages
            case Pause() | Interrupt():
                # A carrier cannot pause, so a pause clears its queue; an interruption after it has nothing to clear.
                cleared, self._cleared = self._cleared, isinstance(event, Pause)
                self._clears += not cleared
                return () if cleared else (self._message("clear"),)
            case Resume():
                self._cleared = False
                return ()  # the session sends the rest again; marks count from the beginning of the reply
            case _:
                return ()

    def _message(self, event: str, content: dict[str, str] | None = None) -> str:
        body: dict[str, Any] = {"event": event, "streamSid": self._stream}
        if content is not None:
            body[event] = content
        return orjson.dumps(body).decode()


def _whole(value: Any) -> int | None:
    """The number in a string of digits, as Twilio writes numbers; None: it is not one."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return None
