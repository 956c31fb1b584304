"""What speaks: the contract, and the names of the synthesisers that come with Parley."""

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from shared.audio.voices import ClonedVoice
from shared.protocol.speech import Speech

__all__ = ["ENGINES", "Cloner", "Speech", "Synthesizer"]


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


@runtime_checkable
class Cloner(Protocol):
    """What a synthesiser is besides that, if it can speak like a recording."""

    def learn(self, voice: ClonedVoice) -> None:
        """Take a voice: `speak` knows it by its name from now on, until many others were learnt after it.

        Cheap, and called before every sentence; the work is done when the voice speaks.
        """
        ...


ENGINES = {
    "espeak": "services.tts.engines.espeak:EspeakSynthesizer",
    "f5": "services.tts.engines.f5:F5Synthesizer",
    "kokoro": "services.tts.engines.kokoro:KokoroSynthesizer",
    "openai": "services.tts.engines.openai:OpenAISynthesizer",
    "scripted": "services.tts.engines.scripted:ScriptedSynthesizer",
    "transformers": "services.tts.engines.transformers:TransformersSynthesizer",
}
