"""What speaks: the contract, and the names of the synthesisers that come with Parley."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from shared.session import Word


@dataclass(frozen=True, slots=True)
class Speech:
    """A slice of speech, s16le mono at the engine's rate, and the words that begin in it."""

    pcm: bytes
    words: tuple[Word, ...] = ()


class Synthesizer(Protocol):
    """The loaded model, shared by all sentences of a worker. Its work is done off the event loop."""

    rate_hz: int
    slots: int
    """How many sentences it can speak at once."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def voices(self) -> tuple[str, ...]:
        """The names that `speak` takes; the first is the default."""
        ...

    def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """Speak one sentence, in slices as they come, none longer than 200 ms.

        An empty `voice` is the engine's default for `language` (BCP 47). Closing the iterator stops the
        synthesis within a slice.
        """
        ...

    async def close(self) -> None: ...


ENGINES = {
    "espeak": "services.tts.espeak:EspeakSynthesizer",
    "scripted": "services.tts.scripted:ScriptedSynthesizer",
}
