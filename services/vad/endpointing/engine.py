"""Endpointing: how long a pause may last before the turn is over. The contract, the engines, the fixed one."""

from collections.abc import Sequence
from typing import Protocol

from shared.protocol.session import SessionSettings
from shared.settings import Settings


class Speaker(Protocol):
    """What an engine has learned about the pauses of one session's speaker."""

    def resumed(self, pause_ms: int) -> None:
        """Learn from a pause of this length that was within a turn: the person spoke again."""
        ...

    def committed(self, pause_ms: int) -> None:
        """Learn that a turn was committed after this silence."""
        ...

    async def wait_ms(self, pcm: bytes, settings: SessionSettings) -> int:
        """Return the silence after which the turn that has just paused is over.

        `pcm` is the turn up to now, its last `audio_s` seconds at most: s16le, 16 kHz, mono.
        """
        ...

    def state(self) -> list[float]:
        """Return what `restore` needs in another worker."""
        ...

    def restore(self, state: Sequence[float]) -> None: ...


class TurnDetector(Protocol):
    """The loaded model, shared by all sessions of a worker. It computes off the event loop."""

    audio_s: float
    """Seconds of the turn that `Speaker.wait_ms` needs; 0: no audio."""

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

    async def wait_ms(self, pcm: bytes, settings: SessionSettings) -> int:
        return settings.endpoint_ms

    def state(self) -> list[float]:
        return []

    def restore(self, state: Sequence[float]) -> None:
        pass


ENGINES = {
    "fixed": "services.vad.endpointing.engine:FixedDetector",
    "pace": "services.vad.endpointing.pace:PaceDetector",
    "smart-turn": "services.vad.endpointing.smart_turn:SmartTurnDetector",
}
