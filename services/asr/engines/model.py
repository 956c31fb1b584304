"""The contract of an offline model: clips in, recognitions out. Computations run in the model's thread."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.protocol.session import RATE_HZ, Word

Samples = NDArray[np.float32]

BYTES_PER_S = 2 * RATE_HZ

TOKENS_PER_S, TOKENS_LEAST = 30, 12
"""Limit of decoded tokens, more than anybody can say: the densest scripts take three tokens for a character."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Audio to transcribe."""

    pieces: tuple[bytes, ...]
    """s16le, 16 kHz, mono, as received. Joined in the model's thread: half a minute would block the event loop."""
    language: str = ""
    """The model's code; empty: the model detects the language, if it can."""
    hints: str = ""
    """Words and names that are likely."""

    @property
    def samples(self) -> Samples:
        """The audio, -1..1."""
        return np.frombuffer(b"".join(self.pieces), "<i2").astype(np.float32) / np.float32(32_768)

    @property
    def seconds(self) -> float:
        return sum(map(len, self.pieces)) / BYTES_PER_S

    @property
    def max_tokens(self) -> int:
        """Tokens after which decoding stops."""
        return round(TOKENS_LEAST + TOKENS_PER_S * self.seconds)


@dataclass(frozen=True, slots=True)
class Recognition:
    """The result for one clip."""

    text: str
    language: str = ""
    no_speech: float | None = None
    """Probability that the clip has no speech; None: the model does not report it."""
    confidence: float | None = None
    """Mean log-probability of the tokens; None: the model does not report it."""
    words: tuple[Word, ...] = ()
    """The words of the text with timestamps in samples of the clip; empty: the model does not report them."""


class Model(Protocol):
    """A loaded model. Blocking, for one thread."""

    languages: frozenset[str]
    """Its language codes, mostly ISO 639-1; empty: it does not list them."""
    detects: bool
    """Whether it detects the language itself."""
    supports_batching: bool
    """Whether several clips in one call are faster than one call each. If not, clips are passed one at a time, so that
    a final transcript does not wait for other clips."""

    def transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return one result for each clip. A clip's result does not depend on the others."""
        ...


def without_control_tokens(hints: str) -> str:
    """Return the hints without the marks of Whisper's control tokens, which a tokenizer would obey."""
    return hints.replace("<|", " ").replace("|>", " ")


def silent_clip(seconds: float, language: str) -> Clip:
    """Return a clip to warm up with."""
    return Clip((bytes(2 * round(seconds * RATE_HZ)),), language)


def in_groups(keys: Iterable[Hashable], transcribe: Callable[[list[int]], Sequence[Recognition]]) -> list[Recognition]:
    """Call `transcribe` with the indices of each distinct key. Returns the results in the order of `keys`."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    results: dict[int, Recognition] = {}
    for indices in groups.values():
        results.update(zip(indices, transcribe(indices), strict=True))
    return [results[index] for index in sorted(results)]
