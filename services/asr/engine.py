"""What turns an utterance into words: the contract, and the names of the recognisers that come with Parley."""

from dataclasses import dataclass
from typing import Protocol

from shared.protocol.session import Word


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was understood; an empty text says that there were no words."""

    text: str
    language: str = ""
    words: tuple[Word, ...] = ()
    """When its words were said, in samples at 16 kHz since the utterance began; all of them, or none: few models tell."""


class Utterance(Protocol):
    """One utterance being heard. Used by one task, in order; `close` is called exactly once, whatever happened."""

    async def accept(self, pcm: bytes) -> str | None:
        """Hear more (s16le, 16 kHz, mono). Returns the partial transcript if it changed."""
        ...

    async def finish(self) -> Transcript:
        """The transcript of all that was accepted. `accept` and `finish` may be called again after it."""
        ...

    def close(self) -> None:
        """Free what the utterance holds."""
        ...


class Recognizer(Protocol):
    """The loaded model, shared by all utterances of a worker. Its work is done off the event loop."""

    slots: int
    """How many utterances it can hear at once."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    async def open(self, language: str, hints: str = "") -> Utterance:
        """Begin an utterance in a BCP 47 language; waits while all decoders are busy.

        `hints` are words and names that may be said, for recognisers that can use them.
        """
        ...

    async def close(self) -> None: ...


ENGINES = {
    "sphinx": "services.asr.engines.sphinx:SphinxRecognizer",
    "scripted": "services.asr.engines.scripted:ScriptedRecognizer",
    "transformers": "services.asr.engines.transformers:TransformersRecognizer",
}
