"""Endpointing: how long a pause may last before the turn is over. The contract, the engines, the fixed one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.protocol.session import SessionSettings
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Words:
    """What was said up to a pause."""

    text: str
    """Empty if there were no words."""
    language: str = ""
    """The recognised language, as a BCP 47 tag; empty: the session's."""
    confidence: float | None = None
    """Mean log-probability of the recogniser's tokens; None: it does not report it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """What is known of a pause."""

    turn: int
    revision: int
    pcm: bytes = b""
    """The turn up to now, its last `audio_s` seconds at most: s16le, 16 kHz, mono."""
    words: Words | None = None
    """None: not recognised yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How long a pause may last."""

    wait_ms: int
    """Silence after which the turn is over."""
    reasons: tuple[str, ...] = ()
    """What decided it, for people who look at a trace."""


class Speaker(Protocol):
    """What an engine has learned about the pauses of one session's speaker."""

    def resumed(self, pause_ms: int) -> None:
        """Learn from a pause of this length that was within a turn: the person spoke again."""
        ...

    def committed(self, pause_ms: int) -> None:
        """Learn that a turn was committed after this silence."""
        ...

    async def decide(self, pause: Pause, settings: SessionSettings) -> Decision:
        """Decide how long this pause may last: when it begins, and again when its words are known."""
        ...

    def state(self) -> list[float]:
        """Return what `restore` needs in another worker."""
        ...

    def restore(self, state: Sequence[float]) -> None: ...


class TurnDetector(Protocol):
    """The loaded model, shared by all sessions of a worker. It computes off the event loop."""

    audio_s: float
    """Seconds of the turn that `Speaker.decide` needs; 0: no audio."""
    uses_words: bool
    """Whether the recogniser is to transcribe each pause for it."""

    async def load(self) -> None:
        """Load and warm up. The worker is ready when this returns.

        Raises:
            UnknownEngine: the model or its library is not installed.
        """
        ...

    def open(self) -> Speaker:
        """Return the initial state of one session's speaker."""
        ...

    async def close(self) -> None: ...


class FixedDetector:
    """Uses the session's `endpoint_ms` for every pause."""

    audio_s = 0.0
    uses_words = False

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    def open(self) -> Speaker:
        return FixedSpeaker()

    async def close(self) -> None:
        pass


class FixedSpeaker:
    """See `Speaker`. Learns nothing. Also the base of other speakers that learn nothing."""

    def resumed(self, pause_ms: int) -> None:
        pass

    def committed(self, pause_ms: int) -> None:
        pass

    async def decide(self, pause: Pause, settings: SessionSettings) -> Decision:
        return Decision(settings.endpoint_ms)

    def state(self) -> list[float]:
        return []

    def restore(self, state: Sequence[float]) -> None:
        pass


ENGINES = {
    "fixed": "services.vad.endpointing.engine:FixedDetector",
    "pace": "services.vad.endpointing.pace:PaceDetector",
    "fused": "services.vad.endpointing.fused:FusedDetector",
    "smart-turn": "services.vad.endpointing.smart_turn:SmartTurnDetector",
}
