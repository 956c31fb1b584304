"""The seam between a session and a wire protocol: what a client can do, and what it can be told.

A codec (one file in `protocols/`) turns a client's messages into actions and events into the client's
messages; it is pure: no clock, no I/O, no task. The session never sees a wire message. Audio crosses the
seam as s16le mono at the codec's `rate_hz`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.session import Message, ReplyOptions, SessionSettings, ToolCall

# -- what a client can do -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the conversation. The lean protocol waits for it; Realtime and phones start at once."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio: what was spoken so far is a turn."""


@dataclass(frozen=True, slots=True)
class Audio:
    """The microphone's next samples: s16le mono at the codec's rate."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """A typed turn that wants a reply."""

    text: str
    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class Commit:
    """Manual turn: what was spoken is a turn."""

    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class Clear:
    """Manual turn: forget what was spoken."""


@dataclass(frozen=True, slots=True)
class RequestReply:
    """Reply to the conversation as it stands."""

    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop the running reply."""


@dataclass(frozen=True, slots=True)
class Played:
    """The client has played the reply of this turn up to here."""

    turn: int
    """0: the newest reply."""
    ms: int


@dataclass(frozen=True, slots=True)
class Configure:
    """The session goes on with these settings."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class SetHistory:
    """Put a message into the conversation, take it out, or cut it. The session keeps it under the codec's `key`."""

    key: str
    role: str
    """`system`, `user`, `assistant` or `tool`; empty with an empty text deletes."""
    text: str
    after: str | None = None
    """Key of the message before it; None: at the end; empty: at the front."""
    calls: tuple[ToolCall, ...] = ()
    """Tools that an assistant's message asks for."""
    answers: str = ""
    """The id of the call that a tool's message answers."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The person heard the reply of this turn up to here and no further."""

    turn: int
    ms: int


@dataclass(frozen=True, slots=True)
class GetStats:
    """Tell the session's figures."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Say goodbye, then close."""


@dataclass(frozen=True, slots=True)
class GetHistory:
    """Tell what the chat model is told that was said."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Stop the reply, forget the conversation; the session goes on."""


@dataclass(frozen=True, slots=True)
class Send:
    """The codec answers by itself (pong, an echo, a protocol error): these wire messages, now."""

    messages: tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """The client did what ends a connection; `code` is the WebSocket close code."""

    code: int
    reason: str


Action = (
    Start | Stop | Audio | Say | Commit | Clear | RequestReply | CancelReply | Played | Configure
    | SetHistory | Truncate | GetStats | GetHistory | HangUp | Reset | Send | Close
)  # fmt: skip

# -- what a client can be told --------------------------------------------------------------------


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
class Heard:
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
    Ready | SpeechBegan | SpeechEnded | TurnBegan | TurnDropped | Heard | ReplyBegan | ReplyText | ReplyAudio
    | ReplyEnded | Pause | Resume | Interrupt | Timing | Stats | Said | IdlePassed | Failed
)  # fmt: skip


class Codec(Protocol):
    """One connection's wire protocol."""

    rate_hz: int
    """Sample rate of `Audio` and `ReplyAudio`. May change until the first `Audio` was decoded."""
    largest_message: int
    """Bytes or characters; a larger message ends the connection."""
    starts_at_once: bool
    """The session starts with the connection; else with the client's `Start`."""
    can_pause: bool
    """Its client keeps what is queued on a `Pause` and goes on with it on a `Resume`; else the rest is sent again."""

    def decode(self, message: str | bytes) -> Sequence[Action]:
        """What the client did. Never raises on a client's data: that is an answer in a `Send`, or a `Close`."""
        ...

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """What to send for an event; often nothing."""
        ...
