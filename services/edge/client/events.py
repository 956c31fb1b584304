"""What a client can be told, whatever protocol it speaks. Audio is s16le mono at the codec's `rate_hz`. Pure."""

from dataclasses import dataclass
from typing import Any

from shared.protocol.session import Message, SessionSettings, ToolCall


@dataclass(frozen=True, slots=True)
class Ready:
    """The session runs."""

    session_id: str
    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The person speaks."""

    turn: int
    onset_ms: int
    """Since the session's first sample, pre-roll included."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The person seems to be done (`final`: the turn is over, else it may go on)."""

    turn: int
    end_ms: int
    final: bool


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """The turn is over and is now being worked on."""

    turn: int
    spoken_ms: int
    """Length of what was spoken; 0 for a turn that was typed or asked for."""
    wants_reply: bool


@dataclass(frozen=True, slots=True)
class TurnDropped:
    """What was spoken is no turn."""

    turn: int
    reason: str


@dataclass(frozen=True, slots=True)
class Transcribed:
    """What was understood: the transcript so far, or the final one."""

    turn: int
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class ReplyBegan:
    """A reply begins; everything about a reply comes between this and its `ReplyEnded`."""

    turn: int


@dataclass(frozen=True, slots=True)
class ReplyText:
    """More text of the reply."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """More audio of the reply: s16le mono at the codec's rate."""

    turn: int
    offset: int
    """Samples of this reply that were sent before, at the codec's rate."""
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """No more comes of this reply."""

    turn: int
    status: str
    """`completed`, `cancelled` (the client's wish), `interrupted` (the person spoke or typed), `failed`, `empty`
    (there were no words to reply to)."""
    text: str
    """The reply's whole text as far as it was made."""
    calls: tuple[ToolCall, ...] = ()
    """Tools that the client is to run now, and to answer with a `SetHistory` for each. Their ids are no other call's."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Someone speaks into the reply: fall silent now. A `Resume` or an `Interrupt` of this turn follows.

    A client that cannot pause drops what is queued instead; its codec says so by `can_pause`.
    """

    turn: int
    heard_ms: int
    """What the person heard of it, as far as the edge knows."""


@dataclass(frozen=True, slots=True)
class Resume:
    """It was nothing: the reply goes on from where it stopped. A client that cannot pause is sent the rest again."""

    turn: int
    from_ms: int
    """Where in the reply it goes on; for a client that cannot pause, what follows begins here."""
    text: str
    """The reply's text from there on, as far as it was sent."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Fall silent now: drop what is queued. A `ReplyEnded` follows, unless the reply was all sent and only playing."""

    turn: int
    heard_ms: int
    """What the person heard of it, as far as the edge knows."""
    heard: str = ""
    """The words of it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When the parts of a turn happened: milliseconds since the end of speech, by name."""

    turn: int
    marks: dict[str, float]


@dataclass(frozen=True, slots=True)
class Stats:
    """The session's figures."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """The conversation as the chat model is told it."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class IdlePassed:
    """Nobody has said anything for the time that the session was set to wait; the agent will ask."""

    since_ms: int
    """Since the session's first sample: where the silence began."""
    until_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong; the session goes on unless a close follows."""

    code: str
    message: str
    turn: int = 0


Event = (
    Ready | SpeechBegan | SpeechEnded | TurnBegan | TurnDropped | Transcribed | ReplyBegan | ReplyText | ReplyAudio
    | ReplyEnded | Pause | Resume | Interrupt | Timing | Stats | Said | IdlePassed | Failed
)  # fmt: skip
