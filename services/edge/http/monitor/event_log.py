"""A session's log for people: one row per frame, with spoken and written texts masked. Pure."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from shared.protocol.codec import BadFrame
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import FRAMES, Frame, VoiceChunk, codec
from shared.protocol.session import RATE_HZ, SessionSettings, ToolCall

PLAIN = {"code", "cut", "reason", "stage", "language", "route", "voice", "trace"}
"""Text fields that never hold content of the conversation."""
LEFT_OUT = {"session", "turn", "revision", "cursor", "prompt_hash", "input_ms", "rate_hz", "samples"}
"""Fields that have their own column or are of no use to a person."""
SAMPLES = {"start", "end", "onset", "decided_at"}
"""Offsets in samples at 16 kHz since the start of the session; shown in seconds."""
OWN_RATE = {"heard", "total"}
"""Lengths in samples at the frame's `rate_hz`; shown in seconds."""
ABOUT = {kind.__name__: (kind.__doc__ or "").partition("\n")[0] for kind in FRAMES}
"""What each event means."""


def log_rows(entry_id: bytes, values: Sequence[bytes], *, content: bool) -> list[dict[str, Any]]:
    """The rows of one entry; `content` shows texts instead of masking them. An unreadable entry is one row of that type."""
    name = entry_id.decode()
    row = {"id": name, "at_ms": milliseconds(name), "number": 0, "fence": 1, "turn": None, "revision": None}
    found = dict(zip(values[::2], values[1::2], strict=False))
    try:
        frames = codec.decode_entry(found[b"f"])
        fence = int(found.get(b"n", 1))
    except (BadFrame, KeyError, ValueError) as error:
        reason = str(error) if isinstance(error, BadFrame) else "the entry has no frames"
        return [{**row, "type": "unreadable", "fields": {"reason": reason}}]
    return [
        {
            **row, "number": number, "fence": fence, "type": type(frame).__name__, "turn": getattr(frame, "turn", None),
            "revision": getattr(frame, "revision", None), "fields": frame_fields(frame, content=content),
        }
        for number, frame in enumerate(frames)
    ]  # fmt: skip


def frame_fields(frame: Frame, *, content: bool) -> dict[str, Any]:
    """The other fields of a frame. A text is masked unless its field is known to hold no content."""
    shown: dict[str, Any] = {}
    rate_hz = getattr(frame, "rate_hz", 0)
    for field in fields(frame):  # type: ignore[arg-type]  # every frame is a dataclass, their base is not
        if field.name in LEFT_OUT:
            continue
        value = getattr(frame, field.name)
        if field.name in OWN_RATE or (field.name == "offset" and rate_hz):
            shown[field.name] = _seconds(value, rate_hz)
        elif (text := _shown(field.name, value, content=content)) is not None:
            shown[field.name] = text
    if isinstance(frame, VoiceChunk):
        shown["length"] = _seconds(len(frame.pcm) // 2, rate_hz)
    return shown


def _shown(name: str, value: object, *, content: bool) -> Any:
    """The value to show; None to leave the field out."""
    match value:
        case int() if name in SAMPLES:
            return _seconds(value, RATE_HZ)
        case bool() | int() | float():
            return value
        case str():
            if not value:
                return None
            if name == "message" and not content:
                return value.partition(": ")[0]  # the type of the error: its text may quote the conversation
            return value if content or name in PLAIN else f"{len(value)} characters"
        case bytes():
            return f"{len(value)} bytes"
        case SessionSettings():
            return {key: getattr(value, key) for key in ("language", "voice", "route", "endpoint_ms", "pause_ms")}
        case ToolCall():
            return value.name if not content else f"{value.name} {value.arguments}"
        case tuple():
            return f"{len(value)}" if value else None
    return None


def _seconds(samples: int, rate_hz: int) -> str:
    """A length in samples as seconds; as samples where the rate is not known (an edge of an earlier version wrote it)."""
    return f"{samples / rate_hz:.2f} s" if rate_hz > 0 else f"{samples} samples"
