"""The contract of a recogniser, and the names of the recognisers that come with Parley."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from shared.protocol.session import Word


@dataclass(frozen=True, slots=True)
class Transcript:
    """The recognised text; empty: there were no words."""

    text: str
    language: str = ""
    words: tuple[Word, ...] = ()
    """The words with timestamps, in samples at 16 kHz since the utterance began: all words, or an empty tuple."""
    confidence: float | None = None
    """Mean log-probability of the tokens of its end; None: the engine does not report it."""
    murmur: bool = False
    """It is short, and sounds like a murmur of somebody who listens ("mm-hmm"): the text may be wrong."""


class Utterance(Protocol):
    """One utterance being recognised. Used by one task, in order. `close` is called exactly once, also after errors.

    `accept` and `finish` raise `EngineLost` if the device has failed, or does not answer.
    """

    async def accept(self, pcm: bytes) -> str | None:
        """Take more audio (s16le, 16 kHz, mono). Returns the partial transcript, or None if it has not changed."""
        ...

    async def finish(self) -> Transcript:
        """Return the transcript of all audio so far. `accept` and `finish` may be called again after it."""
        ...

    def close(self) -> None:
        """Release what the utterance holds."""
        ...


class Recognizer(Protocol):
    """The loaded model, shared by all utterances of a worker. It computes off the event loop."""

    slots: int
    """Utterances that it can recognise at the same time."""

    async def load(self) -> None:
        """Load and warm up. The worker is ready when this returns.

        Raises:
            EngineNotReady: a server that it needs does not answer yet. The worker waits, and loads a new engine.
            UnknownEngine: the model or its library is missing, or cannot be loaded.
        """
        ...

    async def open(self, language: str, hints: str = "") -> Utterance:
        """Begin an utterance in a BCP 47 language. Waits while all decoders are busy.

        `hints` are words and names that are likely to occur; a recogniser that cannot use them ignores them.

        Raises:
            ValueError: the recogniser does not know the language.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Multilingual(Protocol):
    """The additional contract of a recogniser that can list its languages."""

    @property
    def languages(self) -> Collection[str]:
        """The primary subtags of the languages that `open` takes (`de`), once it is loaded; empty: any."""
        ...


ENGINES = {
    "sphinx": "services.asr.engines.sphinx:SphinxRecognizer",
    "faster-whisper": "services.asr.engines.faster_whisper:FasterWhisperRecognizer",
    "openai": "services.asr.engines.openai:OpenAIRecognizer",
    "scripted": "services.asr.engines.scripted:ScriptedRecognizer",
    "transformers": "services.asr.engines.transformers:TransformersRecognizer",
}
