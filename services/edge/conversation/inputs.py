"""The inputs of the core of a conversation besides frames and the client's actions. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from shared.protocol.frames import History, ResumePoint
from shared.protocol.session import SessionSettings


class Stamp(NamedTuple):
    """The time at which something reaches the core, and its origin."""

    now_s: float
    """The edge's own clock, monotonic: for what is played, and for timers."""
    now_ms: int
    """The broker's clock: for what is compared with the work of other processes."""
    logged_ms: int = 0
    """Broker's clock when the frame was written."""
    fence: int = 1
    """Delivery count of the job that the frame belongs to: a higher one comes from a successor."""


class Timer(Enum):
    """The timers of a conversation. There is one of each for each turn, or one in all."""

    SILENCE = "silence"
    """The turn's speech has lasted long enough to pause the reply."""
    TRANSCRIPT = "transcript"
    """The turn has waited long enough for its transcript."""
    REPLY = "reply"
    """More of the turn's reply can be sent, or it was played to its end."""
    IDLE = "idle"
    """Nobody has said anything for a while."""
    DEADLINE = "deadline"
    """Nobody has worked on the turn for too long; turn 0: on what the client typed or requested."""
    GOODBYE = "goodbye"
    """The goodbye takes too long."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that an earlier effect has started is due."""

    timer: Timer
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Begin:
    """The session starts; the agent may greet."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class Restore:
    """Go on from a resume point of a session that another edge has served. Until `GoOn`, entries of the log are those that
    followed it, and no more audio is released than the client has received."""

    settings: SessionSettings
    point: ResumePoint
    history: History
    turn: int
    """The newest turn of whose reply the client has received something; 0: none."""
    samples: int
    """How much of its audio, at the client's rate."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """The log has been read to its end, and the client has connected."""

    whole: bool
    """False: entries of the log were lost. What they began is given up."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Say goodbye, then close with this code and reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    reason: str
    """`failed`: because of a fault of the server."""
