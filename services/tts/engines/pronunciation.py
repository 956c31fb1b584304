"""Words with their phonemes, and cutting a sentence into pieces for one call each. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 400
"""Maximum phonemes of a call. Kokoro accepts 510; the time of a call grows with them."""

FIRST_LONGEST = 120
"""Maximum phonemes of a sentence's first call, if it can be cut there: speech starts after this call."""


@dataclass(frozen=True, slots=True)
class Pronounced:
    """One word of the text and its phonemes, both with adjacent punctuation."""

    word: str
    phonemes: str


def aligned(text: str, phonemes: str, shares: Sequence[int] = ()) -> list[Pronounced]:
    """Pair words with phonemes. If their numbers differ, each word gets a share in proportion to its length.

    `shares`: one for each word, in place of the lengths.
    """
    words, parts = text.split(), phonemes.split()
    if len(words) == len(parts):
        return [Pronounced(word, part) for word, part in zip(words, parts, strict=True)]
    if not words or not parts:
        return []
    weights = shares if any(shares) else [len(word) for word in words]
    found, weight, taken = [], 0, 0
    for word, own in zip(words, weights, strict=True):
        weight += own
        until = round(len(parts) * weight / sum(weights))
        found.append(Pronounced(word, " ".join(parts[taken:until])))
        taken = until
    return found


def pieces(words: Sequence[Pronounced]) -> list[list[Pronounced]]:
    """Cut a sentence into pieces for one call each, preferably after punctuation; the first is short if possible."""
    found: list[list[Pronounced]] = []
    rest = list(words)
    while rest:
        limit = LONGEST if found else FIRST_LONGEST
        size, fits, punctuated = 0, 0, 0
        for count, word in enumerate(rest, 1):
            size += len(word.phonemes) + 1
            if size > limit:
                break
            fits = count
            if word.phonemes[-1:] in tuple(".!?…,;:—"):
                punctuated = count
        if fits < len(rest) and not found and not punctuated:
            fits = _fitting(rest, LONGEST)  # no punctuation for a short first piece
        cut = fits if fits == len(rest) else punctuated or fits or 1
        found.append(rest[:cut])
        rest = rest[cut:]
    return found


def _fitting(words: Sequence[Pronounced], limit: int) -> int:
    """Return how many words fit into `limit` phonemes."""
    size = 0
    for count, word in enumerate(words):
        size += len(word.phonemes) + 1
        if size > limit:
            return count
    return len(words)
