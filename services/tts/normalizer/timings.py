"""Map the times of spoken words back to the words that are written: "five", "dollars" to "$5". Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.tts.normalizer.rules import Span
from shared.protocol.session import Word


class _Part(NamedTuple):
    """A span by its ends in the written and in the spoken text."""

    written: tuple[int, int]
    spoken: tuple[int, int]
    changed: bool


class _Open(NamedTuple):
    """A written word of which more spoken words may follow."""

    ends: tuple[int, int]
    first: Word
    last: Word


class WrittenWords:
    """Takes the words of a sentence as an engine speaks them, in order, and returns the written ones with their times."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._written = "".join(span.written for span in spans)
        self._spoken = "".join(span.spoken for span in spans)
        self._parts: list[_Part] = []
        written = spoken = 0
        for span in spans:
            ends = written + len(span.written), spoken + len(span.spoken)
            self._parts.append(_Part((written, ends[0]), (spoken, ends[1]), span.written != span.spoken))
            written, spoken = ends
        self._as_written = self._written == self._spoken
        self._at = 0
        self._open: _Open | None = None

    def feed(self, words: Iterable[Word]) -> tuple[Word, ...]:
        """Return the written words that are complete. The last one waits for its last spoken word."""
        if self._as_written:
            return tuple(words)
        return tuple(found for word in words for found in self._take(word))

    def finish(self) -> tuple[Word, ...]:
        """Return the word that waits."""
        return self._close()

    def _take(self, word: Word) -> Iterable[Word]:
        at = self._spoken.find(word.text, self._at)
        if at < 0:  # the engine reports it in another form: it belongs to the word before
            return ()
        self._at = at + len(word.text)
        touched = [part for part in self._parts if part.spoken[0] < self._at and at < part.spoken[1]]
        start = min((_to_written(part, at, end=False) for part in touched), default=0)
        end = max((_to_written(part, self._at, end=True) for part in touched), default=0)
        if self._open is not None and start < self._open.ends[1]:
            first, ends = self._open.first, (self._open.ends[0], max(end, self._open.ends[1]))
            closed: tuple[Word, ...] = ()
        else:
            closed, first, ends = self._close(), word, (start, end)
        self._open = _Open(ends, first, word)
        return closed if any(part.changed for part in touched) else (*closed, *self._close())

    def _close(self) -> tuple[Word, ...]:
        if self._open is None:
            return ()
        (start, end), first, last = self._open
        self._open = None
        return (Word(self._written[start:end].strip(), first.start, last.end),)


def _to_written(part: _Part, position: int, *, end: bool) -> int:
    """Return the place in the written text of one in the spoken text; within a changed part one of its ends."""
    if part.changed:
        return part.written[1] if end else part.written[0]
    return min(max(part.written[0] + position - part.spoken[0], part.written[0]), part.written[1])
