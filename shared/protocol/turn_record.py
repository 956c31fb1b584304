"""Where the time of a turn was spent: its marks, the segments between them, and the record that is kept. Pure.

A mark is the time at which something first happened, in ms of the broker's clock since the end of speech. Replies are
prepared at pauses, so the marks of a turn are not necessarily in the order of its segments.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import msgpack


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a turn. Segments may overlap: each begins when its input was ready, not when another one ended."""

    name: str
    stage: str
    begin_ms: float
    end_ms: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.end_ms - self.begin_ms) / 1000


_PARTS = (
    # name, stage, mark at its end, marks at which it can begin (the latest of those that exist)
    ("transcript", "asr", "transcript", ("paused",)),
    ("first_token", "llm", "first_token", ("transcript", "sounded", "asked")),
    ("first_sentence", "llm", "first_sentence", ("first_token",)),
    ("first_audio", "tts", "voice", ("transcript", "sounded", "asked", "first_token", "first_sentence")),
    ("release", "edge", "first_audio", ("voice", "endpoint")),
)

SEGMENTS: dict[str, str] = {"endpoint": "vad", **{name: stage for name, stage, _, _ in _PARTS}}
"""The stage of each segment, in order."""


INNER = frozenset({"paused", "sounded", "asked", "voice"})
"""Internal marks, needed to compute segments and not sent to clients."""


def segments(marks: Mapping[str, float]) -> list[Segment]:
    """Return the segments of which both ends are known. Work that was not prepared at a pause begins at the endpoint.

    A turn that is answered from its audio has no transcript segment. If the chat model speaks itself, there is no
    sentence segment, and the first audio counts for the llm stage.
    """
    found = []
    if "sounded" in marks:
        marks = {name: ms for name, ms in marks.items() if name != "transcript"}
    if "endpoint" in marks:
        found.append(Segment("endpoint", "vad", 0.0, marks["endpoint"]))
    for name, stage, end, begins in _PARTS:
        known = [marks[begin] for begin in begins if begin in marks] or [marks.get("endpoint", 0.0)]
        if end in marks:
            spent_in = "llm" if name == "first_audio" and "first_sentence" not in marks else stage
            found.append(Segment(name, spent_in, max(known), max(marks[end], *known)))
    return found


class BadRecord(ValueError):
    """Bytes that are not a valid turn record."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """The record of a finished turn, for operators. It contains nothing that was said."""

    session: str
    turn: int
    at_ms: int
    """Broker's clock at the end of the turn."""
    protocol: str
    route: str
    outcome: str
    """completed, interrupted, cancelled, failed, empty."""
    revision: int
    heard_ms: int
    """Reply audio that was played."""
    reply_ms: int
    """Reply audio that was sent."""
    trace: str
    """Trace id; empty if the turn was not traced."""
    spoken: bool = False
    """The person spoke the turn; typed and requested turns do not count for voice latency."""
    marks: dict[str, float] = field(default_factory=dict)

    def pack(self) -> bytes:
        return bytes(msgpack.packb(astuple(self)))

    @classmethod
    def unpack(cls, data: bytes) -> "TurnRecord":
        """Raises `BadRecord`."""
        try:
            record = cls(*msgpack.unpackb(data))
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise BadRecord(f"not a turn record: {error}") from error
        for name, kind in cls.__annotations__.items():
            if not isinstance(getattr(record, name), dict if name == "marks" else kind):
                raise BadRecord(f"not a turn record: {name} is {getattr(record, name)!r}")
        if not all(type(name) is str and type(ms) in (int, float) for name, ms in record.marks.items()):
            raise BadRecord(f"not a turn record: marks are {record.marks!r}")
        return record
