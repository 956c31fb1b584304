"""A slice of speech, as the engines that speak give it: synthesisers, and chat models with a voice of their own. Pure."""

from dataclasses import dataclass

from shared.protocol.session import Word


@dataclass(frozen=True, slots=True)
class Speech:
    """A slice of speech, s16le mono at the engine's rate, and the words that begin in it."""

    pcm: bytes
    words: tuple[Word, ...] = ()
