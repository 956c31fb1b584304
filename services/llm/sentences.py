"""Cut a reply into what is spoken at one go, while it is being made. Pure; where sentences end is a library's knowledge.

A first clause comes early, so that the voice can begin; then whole sentences. However the text comes, in letters or all
at once, the pieces are the same: each boundary is judged at set places, with the first character after it and, where that
does not settle it ("me. A…" may be an abbreviation), with the first word. A second worker, which reads in one go what
the first one said, counts on that.
"""

import re

import sentencex

LONGEST = 400
"""Characters after which a sentence is cut at a space: nobody should wait for the full stop of a list."""

LONGEST_WORD = 40
"""Characters after which nobody waits for the end of a word."""

_CLOSERS = "\"'\u2019\u201d\u00bb)\\]\u300d\u300f\uff09*_`"
_WIDE_ENDS, _WIDE_COMMAS = "\u3002\uff01\uff1f\uff61", "\u3001\uff0c\uff1b\uff1a"
# A candidate ends before the first character of what follows. Scripts without spaces need none after their marks.
_END = re.compile(
    rf"[.!?\u2026\u0964\u0965\u061f\u06d4]+[{_CLOSERS}]*\s+(?=\S)"
    rf"|[{_WIDE_ENDS}]+[{_CLOSERS}]*\s*(?=[^\s{_WIDE_ENDS}{_CLOSERS}])"
    r"|\s*\n\s*(?=\S)"
)
_CLAUSE = re.compile(rf"(?:[,;:\u060c\u061b]|\s[\u2013\u2014-])\s+(?=\S)|\u2014\s*(?=\w)|[{_WIDE_COMMAS}]\s*(?=\S)")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}|\w[\w'\u2019-]*")
"""Two characters of a script without spaces count as a word."""
_SPACE = re.compile(r"\s")
_LETTER = re.compile(r"[^\W\d_]")

CONJUNCTIONS: dict[str, tuple[str, ...]] = {
    "en": ("and", "but", "because", "so", "which", "while", "although", "if", "when"),
    "de": ("und", "aber", "weil", "denn", "sondern", "oder"),
    "es": ("y", "pero", "porque", "aunque", "cuando"),
    "fr": ("et", "mais", "parce", "car", "quand"),
    "it": ("e", "ma", "perché", "quando"),
    "pt": ("e", "mas", "porque", "quando"),
    "nl": ("en", "maar", "omdat", "want"),
    "hi": ("और", "लेकिन", "क्योंकि"),
}
"""Where a clause may end without a comma and it still sounds like one."""


class SentenceCutter:
    """Feed it deltas; it gives sentences as soon as it is sure that they are over."""

    def __init__(self, language: str, first_words: int = 0) -> None:
        """`first_words`: the first piece may be a clause of so many words at least; 0: only whole sentences."""
        self._language = language.partition("-")[0].lower() or "en"
        self._first_words = first_words
        words = "|".join(map(re.escape, CONJUNCTIONS.get(self._language, ())))
        self._conjunction = re.compile(rf"\s+(?=(?:{words})\s)") if words else None
        self._text = ""
        self._looked = 0  # candidates before this were judged

    def feed(self, delta: str) -> list[str]:
        """The pieces that this delta completed."""
        self._text += delta
        found: list[str] = []
        while (end := self._next_end()) is not None:
            found.append(self._text[:end].strip())
            self._text, self._looked = self._text[end:], 0
            self._first_words = 0
        return [text for text in found if text]

    def finish(self) -> list[str]:
        """What is left when the reply is over."""
        rest, self._text, self._looked = self._text.strip(), "", 0
        return [rest] if rest else []

    def _next_end(self) -> int | None:
        """Where the first piece of the text ends, if that is certain."""
        while True:
            candidates = [
                (match.end(), judge)
                for pattern, judge in (
                    (_END, self._is_end),
                    (_CLAUSE if self._first_words else None, self._is_clause),
                    (self._conjunction if self._first_words else None, self._is_clause),
                )
                if pattern is not None and (match := pattern.search(self._text, self._looked)) is not None
            ]
            end, judge = min(candidates, key=lambda one: one[0], default=(None, None))
            if len(self._text) > LONGEST and (end is None or end > LONGEST):
                space = self._text.rfind(" ", 1, LONGEST)
                return space if space > 0 else LONGEST
            if end is None or judge is None:
                return None
            verdict = judge(end)
            if verdict is None:
                return None
            if verdict:
                return end
            # The next search begins behind the marks, so that a run of them is one candidate.
            self._looked = end

    def _is_clause(self, end: int) -> bool | None:
        return len(_WORD.findall(self._text[:end])) >= self._first_words

    def _is_end(self, end: int) -> bool | None:
        piece = self._text[:end]
        if not _LETTER.search(piece):
            return False  # "1." begins an item
        if "\n" in piece[len(piece.rstrip()) :] or self._parts(end, end + 1):
            return True
        space = _SPACE.search(self._text, end, end + LONGEST_WORD)
        if space is None and len(self._text) < end + LONGEST_WORD:
            return None
        return self._parts(end, end + LONGEST_WORD if space is None else space.start())

    def _parts(self, end: int, until: int) -> bool:
        """Whether the library, which knows the language, sees a boundary there in the text so far."""
        *before, last = sentencex.segment(self._language, self._text[:until])
        return bool(before) and last.strip() == self._text[end:until].strip()
