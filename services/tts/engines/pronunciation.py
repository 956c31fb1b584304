"""Words with their phonemes, and cutting a sentence into pieces for one call each. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher

LONGEST = 400
"""Maximum phonemes of a call. Kokoro accepts 510; the time of a call grows with them."""

FIRST_LONGEST = 120
"""Maximum phonemes of a sentence's first call, if it can be cut there: speech starts after this call."""


@dataclass(frozen=True, slots=True)
class Pronounced:
    """One word of the text and its phonemes, both with adjacent punctuation."""

    word: str
    phonemes: str
    joined: bool = False
    """Whether the phonemes follow those of the word before without a space: "of the" is spoken as one word."""


def aligned(text: str, phonemes: str) -> list[Pronounced]:
    """Pair words with phonemes. If their numbers differ, each word gets a share in proportion to its length."""
    words, parts = text.split(), phonemes.split()
    if len(words) == len(parts):
        return [Pronounced(word, part) for word, part in zip(words, parts, strict=True)]
    if not words or not parts:
        return []
    found, characters, taken = [], 0, 0
    total = sum(map(len, words))
    for word in words:
        characters += len(word)
        until = round(len(parts) * characters / total)
        found.append(Pronounced(word, " ".join(parts[taken:until])))
        taken = until
    return found


def matched(words: Sequence[str], alone: Sequence[str], phonemes: str) -> list[Pronounced]:
    """Pair words with the phonemes of their sentence, which differ a little from those of each word `alone`."""
    blocks = SequenceMatcher(None, " ".join(alone), phonemes, autojunk=False).get_matching_blocks()
    cuts, space = [0], -1
    for one in alone[:-1]:
        space += len(one) + 1
        cuts.append(max(cuts[-1], _counterpart(space, blocks)))
    found = []
    for word, start, end in zip(words, cuts, [*cuts[1:], len(phonemes)], strict=True):
        part = phonemes[start:end]
        found.append(Pronounced(word, part.strip(), joined=start > 0 and not part.startswith(" ")))
    return found


def _counterpart(position: int, blocks: Sequence[Match]) -> int:
    """Return the position in the second of two strings that matches one in the first."""
    first = second = 0
    for block in blocks:  # the last one is empty, at the ends of the strings
        if position < block.a:
            between = (position - first) / (block.a - first)
            return second + round(between * (block.b - second))
        if position < block.a + block.size:
            return block.b + position - block.a
        first, second = block.a + block.size, block.b + block.size
    return second


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
