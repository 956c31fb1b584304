"""What a client can do, in any protocol. Audio is s16le mono at the codec's `rate_hz`. Pure."""

from dataclasses import dataclass, field

from shared.protocol.session import ReplyOptions, SessionSettings, ToolCall


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the conversation, for codecs whose `starts_with` is None."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a session whose connection was lost."""

    token: str = field(repr=False)
    number: int
    """Number of the last event that the client has received; 0: none."""
    turn: int
    """The newest turn of whose reply it has received something; 0: none."""
    samples: int
    """How much of that reply's audio it has received."""
    otherwise: tuple["Action", ...] = ()
    """What to do if the session cannot be resumed."""


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio follows: commit the speech so far as a turn."""


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
    """Manual turn-taking: commit the speech so far as a turn."""

    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class Clear:
    """Manual turn-taking: discard the speech so far."""


@dataclass(frozen=True, slots=True)
class RequestReply:
    """Reply to the conversation as it stands."""

    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop the running reply."""


@dataclass(frozen=True, slots=True)
class Played:
    """The client has played the reply to this turn up to this position."""

    turn: int
    """0: the newest reply."""
    ms: int


@dataclass(frozen=True, slots=True)
class Configure:
    """Change the session's settings to these."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class SetHistory:
    """Insert, replace or delete a message of the conversation. The session keeps it under the codec's `key`."""

    key: str
    role: str
    """`system`, `user`, `assistant` or `tool`; empty, with an empty text: delete the message."""
    text: str
    after: str | None = None
    """Key of the message before it; None: at the end; empty: at the front."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls of an assistant's message."""
    answers: str = ""
    """The id of the call that a tool's message answers."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The person heard the reply to this turn up to this position and no further."""

    turn: int
    ms: int


@dataclass(frozen=True, slots=True)
class GetStats:
    """Send the session's statistics."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Say goodbye, then close."""


@dataclass(frozen=True, slots=True)
class GetHistory:
    """Send the conversation as the chat model gets it."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Stop the reply and delete the conversation; the session goes on."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these wire messages now: the codec's own answer, for example a pong or an error."""

    messages: tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection because of what the client sent; `code` is the WebSocket close code."""

    code: int
    reason: str


Action = (
    Start | Resume | Stop | Audio | Say | Commit | Clear | RequestReply | CancelReply | Played | Configure
    | SetHistory | Truncate | GetStats | GetHistory | HangUp | Reset | Send | Close
)  # fmt: skip
