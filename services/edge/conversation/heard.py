"""The words of a reply that were heard. Pure; positions are samples of the reply at the client's rate."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentenceSpan:
    """The position of a sentence in the reply, as far as it is known."""

    begin: int
    end: int | None
    """None: not all of it has arrived."""
    words: tuple[tuple[str, int, int], ...] = ()
    """Text, start and end of each word whose time is known."""


def heard_text(texts: Sequence[str], places: Sequence[SentenceSpan], heard: int, received: int) -> str:
    """Return whole sentences up to `heard`, and the words of the one that was playing; `received` samples have arrived."""
    parts: list[str] = []
    for text, place in zip(texts, places, strict=False):
        if place.end is None or heard < place.end:
            if heard > place.begin:
                parts.append(_heard_of(text, place, heard, received))
            break
        parts.append(text)
    return " ".join(part for part in parts if part)


def _heard_of(text: str, place: SentenceSpan, heard: int, received: int) -> str:
    """A word was heard if its middle was; where no times are known, as much of the text as of the audio."""
    if not place.words:
        end = max(received, place.begin + 1) if place.end is None else place.end
        return cut_text(text, (heard - place.begin) / (end - place.begin))
    at = 0
    for word, start, end in place.words:
        if heard < (start + end) // 2:
            break
        found = text.find(word, at)
        if found >= 0:
            at = found + len(word)
    return text[:at].rstrip()


def cut_text(text: str, share: float) -> str:
    """Return the first `share`, 0..1, of a text, cut back to the last whole word."""
    if share >= 1:
        return text
    end = int(len(text) * max(0.0, share))
    if end < len(text) and not text[end].isspace():
        end = text.rfind(" ", 0, end) + 1
    return text[:end].rstrip()
