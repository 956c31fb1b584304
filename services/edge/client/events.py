"""What a session reports to its client, in any protocol. Audio is s16le mono at the codec's `rate_hz`. Pure."""

from dataclasses import dataclass
from typing import Any

from shared.protocol.session import Message, SessionSettings, ToolCall
from shared.protocol.turn_record import Segment


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is running."""

    session_id: str
    settings: SessionSettings
    resume_token: str = ""
    """Resumes the session after a lost connection; empty: it cannot be resumed."""
    resume_s: int = 0
    """Time after the loss in which the session can be resumed, in s."""
    resumed: bool = False
    """The session began on another connection."""


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The person began to speak."""

    turn: int
    onset_ms: int
    """Time since the session's first sample; includes the pre-roll."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The person stopped speaking. `final`: the turn is over; otherwise it may go on."""

    turn: int
    end_ms: int
    final: bool


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """The turn is over and committed."""

    turn: int
    spoken_ms: int
    """Length of the speech; 0 for a typed turn or a requested reply."""
    wants_reply: bool


@dataclass(frozen=True, slots=True)
class TurnDropped:
    """The speech was discarded: it is not a turn."""

    turn: int
    reason: str


@dataclass(frozen=True, slots=True)
class Transcribed:
    """The transcript of the turn: a partial or the final one."""

    turn: int
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class ReplyBegan:
    """A reply begins. All events of a reply come between this and its `ReplyEnded`."""

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
    """Samples of this reply that were sent before this event, at the codec's rate."""
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The reply is over; no more events of it follow."""

    turn: int
    status: str
    """`completed`, `cancelled` (by the client), `interrupted` (the person spoke or typed), `failed`, `empty` (the turn
    had no words)."""
    text: str
    """The text of the reply that was made, also what was not sent."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls that the client runs now and answers with one `SetHistory` each. Their ids are unique."""
    reason: str = ""
    """Of a reply that failed: why, one of `reasons.FAILURES`. Of a completed one: why its text ends early, one of
    `reasons.CUTS`; empty: it does not."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Someone speaks into the reply: pause it now. A `Resume` or an `Interrupt` of this turn follows.

    A client that cannot pause drops what is queued instead; its codec says so by `can_pause`.
    """

    turn: int
    heard_ms: int
    """Length of the reply that the person heard, as far as the edge knows."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A false interruption: the reply goes on from where it stopped. A client that cannot pause gets the rest again."""

    turn: int
    from_ms: int
    """Position in the reply at which it goes on; for a client that cannot pause, the next audio begins here."""
    text: str
    """The reply's text after this position that was sent before the pause."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Stop the reply now and drop its queued audio. A `ReplyEnded` follows unless the whole reply had been sent."""

    turn: int
    heard_ms: int
    """Length of the reply that the person heard, as far as the edge knows."""
    heard: str = ""
    """The words that the person heard."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a turn's time went until its first audio was sent."""

    turn: int
    marks: dict[str, float]
    """The times of its steps: milliseconds since the end of speech, by name."""
    spoken: bool = True
    """The person spoke the turn. Others (typed, requested, a greeting) do not count for the response time."""
    segments: tuple[Segment, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why the turn was over after this much silence; empty: it is not known, or the silence is a constant."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The session's statistics."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """The conversation as the chat model gets it."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class IdlePassed:
    """The idle time of the session has passed without speech; the agent will ask whether anyone is there."""

    since_ms: int
    """Beginning of the silence: time since the session's first sample."""
    until_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An error; the session goes on unless a close follows."""

    code: str
    message: str
    turn: int = 0
    in_reply: bool = False
    """The turn gets a reply nevertheless, in which the agent says that it failed."""


Event = (
    Ready | SpeechBegan | SpeechEnded | TurnBegan | TurnDropped | Transcribed | ReplyBegan | ReplyText | ReplyAudio
    | ReplyEnded | Pause | Resume | Interrupt | Timing | Stats | Said | IdlePassed | Failed
)  # fmt: skip
