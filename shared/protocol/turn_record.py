"""Where the time of a turn was spent: its marks, the segments between them, and the record that is kept. Pure.

A mark is the time at which something first happened, in ms of the broker's clock since the end of speech. Replies are
prepared at pauses, so the marks of a turn are not necessarily in the order of its segments.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields

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


@dataclass(frozen=True, slots=True)
class SegmentKind:
    """How a segment is found in the marks of a turn, and how people read it."""

    stage: str
    """The stage that spends the time; `client` for what happens after the sending."""
    label: str
    about: str
    end: str
    """The mark at its end."""
    begins: tuple[str, ...] = ()
    """The marks at which it can begin: the latest of those that exist. Without any, it begins at the endpoint."""


SEGMENTS: dict[str, SegmentKind] = {
    "endpoint": SegmentKind("vad", "Endpoint", "silence until the turn counted as over", "endpoint"),
    "transcript": SegmentKind("asr", "Transcript", "until the words were recognised", "transcript", ("paused",)),
    "first_token": SegmentKind(
        "llm", "First token", "until the chat model began", "first_token", ("transcript", "sounded", "asked")
    ),
    "first_sentence": SegmentKind(
        "llm", "First sentence", "until the first clause was complete", "first_sentence", ("first_token",)
    ),
    "first_audio": SegmentKind(
        "tts", "First audio", "until the voice made the first audio", "voice",
        ("transcript", "sounded", "asked", "first_token", "first_sentence"),
    ),
    "release": SegmentKind("edge", "Sending", "from first audio and endpoint to sending", "first_audio", ("voice", "endpoint")),
    "played": SegmentKind("client", "Playback", "network, buffer and loudspeaker", "played", ("first_audio",)),
}  # fmt: skip
"""The segments of a turn by name, in order. The page has the same list in web/segments.js."""


INNER = frozenset({"paused", "sounded", "asked", "voice"})
"""Internal marks, needed to compute segments and not sent to clients."""


def segments(marks: Mapping[str, float], *, spoken: bool = True) -> list[Segment]:
    """Return the segments of which both ends are known. Work that was not prepared at a pause begins at the endpoint.

    A turn that is answered from its audio has no transcript segment. If the chat model speaks itself, there is no
    sentence segment, and the first audio counts for the llm stage. A turn that was not `spoken` (typed, or asked for by
    the client) has no endpoint and no transcript: it begins when it was sent.
    """
    left_out = (() if spoken else ("endpoint", "transcript")) + (("transcript",) if "sounded" in marks else ())
    marks = {name: ms for name, ms in marks.items() if name not in left_out}
    found = []
    for name, kind in SEGMENTS.items():
        if kind.end not in marks:
            continue
        known = [marks[begin] for begin in kind.begins if begin in marks] or [marks.get("endpoint", 0.0)]
        begin_ms = 0.0 if name == "endpoint" else max(known)
        spent_in = "llm" if name == "first_audio" and "first_sentence" not in marks else kind.stage
        found.append(Segment(name, spent_in, begin_ms, max(marks[kind.end], begin_ms)))
    return found


class BadRecord(ValueError):
    """Bytes that are not a valid turn record."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """The record of a finished turn, for operators. It contains what was said only if the edge may log content."""

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
    said: str = ""
    """What the person said or typed; empty if the edge may not log content."""
    reply: str = ""
    """The reply as far as it was heard; empty if the edge may not log content."""
    reason: str = ""
    """Why the turn failed, or why the reply ended early: one of `reasons.FAILURES`."""

    def pack(self) -> bytes:
        return bytes(msgpack.packb(astuple(self)))

    @classmethod
    def unpack(cls, data: bytes) -> "TurnRecord":
        """Read what `pack` wrote, in this release or another: unknown fields at the end are ignored. Raises `BadRecord`."""
        try:
            record = cls(*msgpack.unpackb(data)[: len(fields(cls))])
        except (LookupError, ValueError, TypeError, msgpack.UnpackException) as error:
            raise BadRecord(f"not a turn record: {error}") from error
        for name, kind in cls.__annotations__.items():
            if not isinstance(getattr(record, name), dict if name == "marks" else kind):
                raise BadRecord(f"not a turn record: {name} is {getattr(record, name)!r}")
        if not all(type(name) is str and type(ms) in (int, float) for name, ms in record.marks.items()):
            raise BadRecord(f"not a turn record: marks are {record.marks!r}")
        return record
