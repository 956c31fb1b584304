"""What the core of a conversation asks its shell to do, in order. Pure.

An event for the client is an effect itself: `events.Event`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.edge.client.events import Event
from services.edge.conversation.inputs import Timer
from shared.protocol.frames import Frame
from shared.protocol.session import Message


@dataclass(frozen=True, slots=True)
class Publish:
    """Write a frame to its streams: at once, or (not urgent) together with what follows within a few milliseconds."""

    frame: Frame
    urgent: bool = True


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """Tell all workers that work on this session below (turn, revision) is no longer needed."""

    turn: int
    revision: int
    only: bool = False
    """Only work on earlier revisions of this turn."""


@dataclass(frozen=True, slots=True)
class SaveHistory:
    """Replace the copy of the history that chat models read."""

    messages: Sequence[Message]
    keys: Sequence[str] = ()
    """The key of each message."""


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Send `TimerFired(timer, turn)` after this delay. Replaces a timer of the same name and turn."""

    timer: Timer
    delay_s: float
    turn: int = 0


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Cancel the timer of this name and turn, if it runs."""

    timer: Timer
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; the code is a WebSocket's."""

    code: int
    reason: str


class Tally(Enum):
    """Events that are only counted."""

    STALE = "stale"
    """A frame of a reply that is no longer wanted was dropped."""
    DUPLICATE = "duplicate"
    """Audio that had arrived before was dropped."""
    SPECULATION_BEGUN = "begun"
    """A reply is prepared at a pause, before the turn is over."""
    SPECULATION_REUSED = "reused"
    SPECULATION_REDONE = "redone"
    """The conversation has changed since the reply was begun; it is made again."""
    SPECULATION_WASTED = "wasted"
    RESUMED = "resumed"
    """A reply plays on after a false interruption."""
    APOLOGY = "voice"
    """The agent says that a turn has failed."""
    TONE = "tone"
    """A tone says so, as nobody has spoken the apology in the session's voice."""
    UNDERRUN = "underrun"
    """The client had played everything before the next audio arrived."""


@dataclass(frozen=True, slots=True)
class Count:
    tally: Tally


@dataclass(frozen=True, slots=True)
class Silenced:
    """The reply was paused for speech that began at this sample of the microphone."""

    onset: int


@dataclass(frozen=True, slots=True)
class FirstAudio:
    """The first audio of the reply to a spoken turn was sent."""

    marks: Mapping[str, float]
    """Milliseconds since the end of speech, by name."""
    trace: str


@dataclass(frozen=True, slots=True)
class FirstPlayed:
    """The client has begun to play the reply to a spoken turn."""

    latency_s: float
    """Since the end of speech."""
    trace: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn that was to be answered has its outcome: the fields of its `TurnRecord`, and two for its span."""

    turn: int
    outcome: str
    revision: int
    heard_ms: int
    reply_ms: int
    route: str
    at_ms: int
    spoken: bool
    marks: dict[str, float]
    trace: str
    """W3C traceparent; empty: the turn is not traced."""
    speech_end_ms: int
    """Broker's clock at the end of speech, from which the marks are counted; 0: not known."""
    said: str
    reply: str
    """The reply as far as it was heard."""
    reason: str = ""
    """See `events.ReplyEnded`."""


Observation = Count | Silenced | FirstAudio | FirstPlayed | TurnEnded
Effect = Event | Publish | StopWorkers | SaveHistory | StartTimer | CancelTimer | Close | Observation
