"""What the core of a conversation is given besides frames and the client's actions. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from shared.protocol.session import SessionSettings


class Stamp(NamedTuple):
    """When something reaches the core, and where it comes from."""

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
class Leave:
    """Say goodbye, then close with this code and reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    reason: str
    """`failed`: because of a fault of the server."""
