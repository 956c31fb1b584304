"""A phone call over Twilio Media Streams: JSON text with base64 µ-law at 8 kHz, both ways.

It owns the shapes of the messages, the account of what the caller has heard, and the check of Twilio's
signature. Twilio's protocol has no error message, so whatever is wrong closes the connection. Pure.
Only `media`, `mark` and `clear` may be sent: Twilio ends the stream at anything else.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import orjson

from services.edge.actions import Action, Audio, Close, Played, Start, Stop
from services.edge.events import Event, Interrupt, Pause, ReplyAudio, Resume
from services.edge.protocols.fields import BadField, parsed_settings, with_settings
from shared.audio import LAW_RATE_HZ, decode_law, encode_law
from shared.session import SessionSettings

MESSAGE_BYTES = 1600
"""µ-law bytes of one `media` message: 200 ms. Each is followed by a mark, so that this is how finely the played
position is known, and a `clear` never waits behind more than one of them being written."""

MAX_PAYLOAD_BYTES = 64 * 1024
"""Twilio sends 20 ms, 160 bytes, at a time."""

_EVENTS = ("start", "media", "mark", "stop")


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
    largest_message = 64 * 1024  # Twilio's media messages have some 300
    starts_at_once = False
    can_pause = False

    def __init__(self, defaults: SessionSettings) -> None:
        self._defaults = defaults
        self._stream = ""
        self._closed = False
        self._last_chunk = 0
        # Twilio echoes the marks that a `clear` threw away as if they had been played; they carry an old number.
        self._clears = 0
        self._cleared = False  # for a pause that is not over

    # -- what the carrier says ----------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> Sequence[Action]:
        """What happened on the call; anything that Twilio would not send ends it."""
        if self._closed:
            return ()
        if not isinstance(message, str):
            return self._close(1008, "binary message")
        try:
            body = orjson.loads(message)
        except orjson.JSONDecodeError:
            return self._close(1008, "no JSON")
        kind = body.get("event") if type(body) is dict else None
        if type(kind) is not str:
            return self._close(1008, "a message without event")
        if kind not in _EVENTS:
            return ()  # `connected`, a key pressed, and whatever Twilio may add
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

    def _start(self, start: dict[str, Any]) -> tuple[Action, ...]:
        stream, media = start.get("streamSid"), start.get("mediaFormat")
        if self._stream:
            return self._close(1008, "second start")
        if type(stream) is not str or not 0 < len(stream) <= 100:
            return self._close(1008, "start without streamSid")
        if (
            type(media) is not dict
            or media.get("encoding") != "audio/x-mulaw"
            or media.get("sampleRate") != LAW_RATE_HZ
        ):
            return self._close(1008, "mediaFormat is not audio/x-mulaw at 8000")
        parameters = start.get("customParameters")
        if type(parameters) is not dict:
            parameters = {}
        try:
            # A `<Parameter>` sets any setting of a session; other names are for the caller's own use.
            chosen = parsed_settings(parameters, prefix="customParameters.")
            settings = with_settings(self._defaults, chosen, prefix="customParameters.")
        except BadField as error:
            return self._close(1008, str(error))
        self._stream = stream
        return (Start(settings),)

    def _media(self, media: dict[str, Any]) -> tuple[Action, ...]:
        if media.get("track", "inbound") != "inbound":
            return ()
        chunk, payload = _whole(media.get("chunk")), media.get("payload")
        if type(payload) is not str or len(payload) > MAX_PAYLOAD_BYTES:
            return self._close(1008, "media without a payload of fitting length")
        try:
            codes = binascii.a2b_base64(payload, strict_mode=True)
        except ValueError:
            return self._close(1008, "payload is no base64")
        if chunk is not None:
            # A doubled chunk, or one that comes after its successor, would be heard as a stutter. A gap is a gap.
            if chunk <= self._last_chunk:
                return ()
            self._last_chunk = chunk
        return (Audio(decode_law("ulaw", codes)),) if codes else ()

    def _mark(self, mark: dict[str, Any]) -> tuple[Action, ...]:
        name = mark.get("name")
        parts = name.split(":") if type(name) is str and len(name) <= 60 else []
        if len(parts) != 3 or not parts[0].startswith("t"):
            return ()
        turn, samples, clears = _whole(parts[0][1:]), _whole(parts[1]), _whole(parts[2])
        if turn is None or samples is None or clears != self._clears:
            return ()
        return (Played(turn, samples * 1000 // LAW_RATE_HZ),)

    # -- what the carrier is told -------------------------------------------------------------------------------

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """The reply's audio and its end; a caller is told nothing else."""
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
                # A carrier cannot pause. After a pause nothing is queued, and an interruption has nothing to clear.
                cleared, self._cleared = self._cleared, isinstance(event, Pause)
                self._clears += not cleared
                return () if cleared else (self._message("clear"),)
            case Resume():
                self._cleared = False
                return ()  # the rest is sent again, and its marks count from the beginning of the reply
            case _:
                return ()

    def _message(self, event: str, content: dict[str, str] | None = None) -> str:
        body: dict[str, Any] = {"event": event, "streamSid": self._stream}
        if content is not None:
            body[event] = content
        return orjson.dumps(body).decode()


def _whole(value: Any) -> int | None:
    """The number in a string of digits, as Twilio writes them."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return None
