"""The wire format of OpenAI Realtime: events with ids, errors, audio formats. Pure."""

import binascii
import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import orjson

from shared.audio.pcm import LAW_RATE_HZ, Law, decode_law, encode_law

NewId = Callable[[str], str]

PCM_RATE_HZ = 24_000
"""The only rate of `audio/pcm`."""

FORMATS: dict[str, dict[str, Any]] = {
    "audio/pcm": {"type": "audio/pcm", "rate": PCM_RATE_HZ},
    "audio/pcmu": {"type": "audio/pcmu"},
    "audio/pcma": {"type": "audio/pcma"},
}
_LAWS: dict[str, Law] = {"audio/pcmu": "ulaw", "audio/pcma": "alaw"}

MAX_APPEND_CHARS = 15 * 1024 * 1024
"""Base64 of one `input_audio_buffer.append`."""


def random_id(prefix: str) -> str:
    """An id as OpenAI's look: a prefix and 20 hexadecimal digits, for example `item_0123456789abcdef0123`."""
    return f"{prefix}_{secrets.token_hex(10)}"


class Refused(ValueError):
    """A client event that is refused: it becomes an `error` event, and the session goes on."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def bound_field(field: str) -> Refused:
    """The client may not change a field, because its client secret was created with it."""
    return Refused(f"'{field}' was set when the client secret was created.", "bound_by_client_secret", field)


class Wire:
    """Writes server events, each with a unique id."""

    def __init__(self, new_id: NewId) -> None:
        self.new_id = new_id

    def event(self, kind: str, **fields: Any) -> str:
        return orjson.dumps({"type": kind, "event_id": self.new_id("event"), **fields}).decode()

    def error(
        self,
        message: str,
        code: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        caused_by: str | None = None,
    ) -> str:
        """An `error` event. `param`: the wrong field; `caused_by`: the `event_id` of the client event."""
        error = {"type": kind, "code": code, "message": message, "param": param, "event_id": caused_by}
        return self.event("error", error=error)


def rate_of(audio_format: str) -> int:
    """Sample rate of a format in Hz."""
    return LAW_RATE_HZ if audio_format in _LAWS else PCM_RATE_HZ


def unpack_audio(audio: Any, audio_format: str) -> bytes:
    """The PCM (s16le) in an `input_audio_buffer.append`. It may end in the middle of a sample.

    Raises:
        Refused: too long, or not base64.
    """
    if type(audio) is not str or not audio:
        raise Refused("Invalid 'audio': expected base64-encoded audio bytes.", "invalid_value", "audio")
    if len(audio) > MAX_APPEND_CHARS:
        raise Refused(
            f"Invalid 'audio': longer than {MAX_APPEND_CHARS} characters.", "string_above_max_length", "audio"
        )
    try:
        data = binascii.a2b_base64(audio, strict_mode=True)
    except ValueError:  # also raised for characters outside ASCII
        raise Refused("Invalid 'audio': not valid base64.", "invalid_value", "audio") from None
    law = _LAWS.get(audio_format)
    return data if law is None else decode_law(law, data)


def pack_audio(pcm: bytes, audio_format: str, most_bytes: int) -> list[str]:
    """PCM as base64 in this format. Each piece has at most `most_bytes` (even) bytes before base64."""
    law = _LAWS.get(audio_format)
    data = pcm if law is None else encode_law(law, pcm)
    return [b64encode(data[start : start + most_bytes]).decode() for start in range(0, len(data), most_bytes)]
