"""A session's log for people: one row per frame, with spoken and written texts masked. Pure."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from shared.protocol.codec import BadFrame
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import Frame, VoiceChunk, codec
from shared.protocol.session import RATE_HZ, SessionSettings, ToolCall

PLAIN = {"reason", "stage", "language", "route", "voice", "trace"}
"""Text fields that never hold content of the conversation."""
LEFT_OUT = {"session", "turn", "revision", "cursor", "prompt_hash", "input_ms"}
"""Fields that have their own column or are of no use to a person."""
SAMPLES = {"start", "end", "onset", "decided_at"}
"""Offsets in samples since the start of the session; shown in seconds."""


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
    for field in fields(frame):  # type: ignore[arg-type]  # every frame is a dataclass, their base is not
        if (
            field.name not in LEFT_OUT
            and (value := _shown(field.name, getattr(frame, field.name), content=content)) is not None
        ):
            shown[field.name] = value
    if isinstance(frame, VoiceChunk):
        shown["ms"] = len(frame.pcm) // 2 * 1000 // frame.rate_hz if frame.rate_hz > 0 else 0
    return shown


def _shown(name: str, value: object, *, content: bool) -> Any:
    """The value to show; None to leave the field out."""
    match value:
        case int() if name in SAMPLES:
            return f"{value / RATE_HZ:.2f} s"
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
