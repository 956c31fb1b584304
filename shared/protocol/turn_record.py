"""Where the time of a turn went: its marks, the parts between them, and the record that is kept of it. Pure.

A mark is the time since the end of speech, in ms of the broker's clock, at which something first happened. Work is
prepared at a pause, so the marks of a turn need not come in the order of its parts.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import msgpack


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a turn: what the person waited for, had nothing else been done meanwhile."""

    name: str
    stage: str
    begin_ms: float
    end_ms: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.end_ms - self.begin_ms) / 1000


_PARTS = (
    # name, stage, mark at its end, the marks at which it can begin: the latest that there is
    ("transcript", "asr", "transcript", ("paused",)),
    ("first_token", "llm", "first_token", ("transcript", "sounded", "asked")),
    ("first_sentence", "llm", "first_sentence", ("first_token",)),
    ("first_audio", "tts", "voice", ("transcript", "sounded", "asked", "first_token", "first_sentence")),
    ("release", "edge", "first_audio", ("voice", "endpoint")),
)

SEGMENTS: dict[str, str] = {"endpoint": "vad", **{name: stage for name, stage, _, _ in _PARTS}}
"""The stage of each part, in order."""


INNER = frozenset({"paused", "sounded", "asked", "voice"})
"""Marks at which parts begin and end that are no step on the way to the ear: clients are not told of them."""


def segments(marks: Mapping[str, float]) -> list[Segment]:
    """The parts whose both ends are known. What was not prepared at a pause begins at the endpoint.

    What is answered as it sounds waits for no transcript, and what the chat model speaks itself for no sentence and no
    synthesis.
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
    """Bytes that are no record of a turn."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What is kept of a turn that is over, for people who look after it; nothing of what was said."""

    session: str
    turn: int
    at_ms: int
    """Broker's clock when it was over."""
    protocol: str
    route: str
    outcome: str
    """completed, interrupted, cancelled, failed, empty."""
    revision: int
    heard_ms: int
    """How much of the reply was played."""
    reply_ms: int
    """How much of it was sent."""
    trace: str
    """Id of its trace; empty where it has none."""
    spoken: bool = False
    """The person spoke; a turn that was typed, or asked for, says nothing of the time that a voice takes."""
    marks: dict[str, float] = field(default_factory=dict)

    def pack(self) -> bytes:
        return bytes(msgpack.packb(astuple(self)))

    @classmethod
    def unpack(cls, data: bytes) -> "TurnRecord":
        """Raises `BadRecord`."""
        try:
            record = cls(*msgpack.unpackb(data))
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise BadRecord(f"no record of a turn: {error}") from error
        for name, kind in cls.__annotations__.items():
            if not isinstance(getattr(record, name), dict if name == "marks" else kind):
                raise BadRecord(f"no record of a turn: {name} is {getattr(record, name)!r}")
        if not all(type(name) is str and type(ms) in (int, float) for name, ms in record.marks.items()):
            raise BadRecord(f"no record of a turn: marks are {record.marks!r}")
        return record
