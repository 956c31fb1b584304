"""The contract of speech synthesizers, and the names of the engines that come with Parley."""

from collections.abc import AsyncGenerator, Collection
from typing import Protocol, runtime_checkable

from shared.audio.voices import ClonedVoice
from shared.protocol.speech import Speech

__all__ = ["ENGINES", "Cloner", "Multilingual", "Speech", "Synthesizer"]


class Synthesizer(Protocol):
    """A loaded model, shared by all sentences of a worker. It must not block the event loop."""

    rate_hz: int
    """Sample rate of its speech, s16le mono."""
    slots: int
    """Maximum number of concurrent sentences."""
    in_order: bool
    """The sentences of one reply are synthesised one at a time: on one processor, the next would delay the first. An
    endpoint takes them at once, because each costs a round trip."""

    async def load(self) -> None:
        """Load the model and warm it up. The worker is ready when this returns.

        Raises:
            EngineNotReady: a server that it needs does not answer yet. The worker waits, and loads a new engine.
            UnknownEngine: the model or a library is missing, or the model does not work.
        """
        ...

    def voices(self) -> tuple[str, ...]:
        """Return the names that `speak` accepts; the first is the default."""
        ...

    def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """Stream one sentence in slices of at most 200 ms. Closing the generator stops the synthesis within a slice.

        Args:
            text: The sentence; in words, unless `text_language` says that it is taken as written.
            voice: A name from `voices`; empty for the default voice of the language.
            speed: 1.0 is normal.
            language: BCP 47.

        Raises:
            ValueError: the voice is unknown, or the engine does not speak the language.
        """
        ...

    def text_language(self, voice: str, language: str) -> str:
        """Return the language in which `speak` reads a text; empty: it takes a text as it is written.

        The stage turns numbers, dates and signs into words of this language, except where the engine reads them itself.
        `voice` and `language`: as in `speak`; an unknown voice is refused there.
        """
        ...

    async def close(self) -> None: ...


def voice_languages(synthesizer: Synthesizer) -> dict[str, str]:
    """Return the language of each voice that has one of its own, by its name: a BCP 47 tag.

    An engine says so by a method `voice_language(voice)`, which returns an empty string for a voice of any language.
    """
    find = getattr(synthesizer, "voice_language", None)
    if find is None:
        return {}
    return {voice: language for voice in synthesizer.voices() if (language := find(voice))}


@runtime_checkable
class Multilingual(Protocol):
    """The additional contract of a synthesizer that can list its languages."""

    def languages(self) -> Collection[str]:
        """Return the primary subtags of the languages that `speak` takes without a voice (`de`); empty: any."""
        ...


@runtime_checkable
class Cloner(Protocol):
    """The additional contract of a synthesizer that can clone a voice from a recording."""

    def learn(self, voice: ClonedVoice) -> None:
        """Register a voice, so that `speak` accepts its name. The engine may forget it after many other voices.

        The stage calls this before every sentence, so it must be cheap; `speak` does the expensive part.
        """
        ...


ENGINES = {
    "espeak": "services.tts.engines.espeak:EspeakSynthesizer",
    "f5": "services.tts.engines.f5:F5Synthesizer",
    "kokoro": "services.tts.engines.kokoro:KokoroSynthesizer",
    "openai": "services.tts.engines.openai:OpenAISynthesizer",
    "piper": "services.tts.engines.piper:PiperSynthesizer",
    "scripted": "services.tts.engines.scripted:ScriptedSynthesizer",
    "transformers": "services.tts.engines.transformers:TransformersSynthesizer",
}
