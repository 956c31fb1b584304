"""The output of engines that speak: synthesisers, and chat models that produce speech. Pure."""

from dataclasses import dataclass

from shared.protocol.session import Word


@dataclass(frozen=True, slots=True)
class Speech:
    """A slice of speech, s16le mono at the engine's sample rate, with the words that begin in it."""

    pcm: bytes
    words: tuple[Word, ...] = ()
