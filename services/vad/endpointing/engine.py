"""Whether a turn that has paused is over: the contract, the constant, and the names of the engines that come with Parley."""

from collections.abc import Sequence
from typing import Protocol

from shared.protocol.session import SessionSettings
from shared.settings import Settings


class Speaker(Protocol):
    """One session's speaker: what is known of how they pause."""

    def resumed(self, pause_ms: int) -> None:
        """They went on after a pause of this length: it was within their turn."""
        ...

    def committed(self, pause_ms: int) -> None:
        """The turn was taken to be over after so much silence."""
        ...

    async def wait_ms(self, pcm: bytes, settings: SessionSettings) -> int:
        """Silence after which the turn that has just paused is over.

        `pcm` is the end of the turn up to now, the last `audio_s` seconds at most: s16le, 16 kHz, mono.
        """
        ...

    def state(self) -> list[float]:
        """What a successor has to know; given to its `restore`."""
        ...

    def restore(self, state: Sequence[float]) -> None: ...


class TurnDetector(Protocol):
    """The loaded model, shared by all sessions of a worker. Its work is done off the event loop."""

    audio_s: float
    """How much of a turn it wants to hear; 0: none."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def open(self) -> Speaker:
        """A speaker of whom nothing is known yet."""
        ...

    async def close(self) -> None: ...


class FixedDetector:
    """The constant that the session is set to."""

    audio_s = 0.0

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    def open(self) -> "FixedSpeaker":
        return FixedSpeaker()

    async def close(self) -> None:
        pass


class FixedSpeaker:
    """See `Speaker`. Nothing is learned."""

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
