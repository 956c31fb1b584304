"""What a client can do, whatever protocol it speaks. Audio is s16le mono at the codec's `rate_hz`. Pure."""

from dataclasses import dataclass, field

from shared.protocol.session import ReplyOptions, SessionSettings, ToolCall


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
