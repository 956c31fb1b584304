"""What a recogniser that calls a model is asked, and what it answers. Values; the arithmetic is done in the model's thread."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from services.asr.engines.guards import Samples, is_invented, is_too_much, without_loops
from shared.protocol.session import RATE_HZ, Word

BYTES_PER_S = 2 * RATE_HZ

TOKENS_PER_S, TOKENS_LEAST = 30, 12
"""No more are decoded than anybody says: the densest scripts take three tokens for a letter."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Audio to be transcribed."""

    pieces: tuple[bytes, ...]
    """s16le, 16 kHz, mono, in the pieces in which it came: joining half a minute of it is no work for the event loop."""
    language: str = ""
    """As the model calls it; empty: the model finds out, if it can."""
    hints: str = ""
    """Words and names that are likely."""

    @property
    def samples(self) -> Samples:
        """-1..1"""
        return np.frombuffer(b"".join(self.pieces), "<i2").astype(np.float32) / np.float32(32_768)

    @property
    def seconds(self) -> float:
        return sum(map(len, self.pieces)) / BYTES_PER_S

    @property
    def most_tokens(self) -> int:
        return round(TOKENS_LEAST + TOKENS_PER_S * self.seconds)


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a model made of a clip."""

    text: str
    language: str = ""
    no_speech: float | None = None
    """Probability that nobody spoke, of the models that tell."""
    confidence: float | None = None
    """Mean log-probability of the tokens."""
    words: tuple[Word, ...] = ()
    """When the words of the text were said, of the models that tell; samples of the clip."""


class Model(Protocol):
    """A loaded recogniser."""

    languages: frozenset[str]
    """What it calls them, mostly ISO 639-1; empty: whatever it was trained on, it does not say."""
    detects: bool
    """Whether it finds out the language itself."""
    alone: bool
    """Whether several clips in one call take as long as in several: then a final one need not wait for so many."""

    def transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        """One answer for each clip, the same as if it were alone."""
        ...


def silent_clip(seconds: float, language: str) -> Clip:
    """Something to warm up with."""
    return Clip((bytes(2 * round(seconds * RATE_HZ)),), language)


def in_groups(keys: Iterable[Hashable], answer: Callable[[list[int]], Sequence[Recognition]]) -> list[Recognition]:
    """Ask once for all clips with the same key, by their places. Returns the answers in the order of the clips."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    found: dict[int, Recognition] = {}
    for places in groups.values():
        found.update(zip(places, answer(places), strict=True))
    return [found[place] for place in sorted(found)]


def trusted(heard: Recognition, clip: Clip) -> Recognition:
    """What a model wrote, less what it made up."""
    text = without_loops(heard.text)
    if is_invented(heard.no_speech, heard.confidence) or is_too_much(text, clip.seconds):
        text = ""
    return heard if text == heard.text else replace(heard, text=text, words=heard.words[: len(text.split())])
