"""Split a streamed reply into sentences for speech synthesis. Pure; the library `sentencex` finds sentence boundaries.

The first piece may be a clause, so that speech starts earlier; then come whole sentences. The pieces do not depend on
the sizes of the deltas: each boundary is decided with the first letter after it and, where that is ambiguous ("me. A…"
may be an abbreviation, "3. O…" a date), with the first word. A second attempt relies on this: it splits the text of the
first attempt again, and skips as many pieces as the first one published.
"""

import re

import sentencex

LONGEST = 400
"""Characters. A longer sentence is cut, so that speech does not wait for the full stop at the end of a long list."""

MAX_WORD = 40
"""Characters. A longer word decides a boundary before it is complete."""

_MARKUP, _BRACKETS = "*_`~", ")]\uff09"
_CLOSERS = "\"'\u2019\u201d\u00bb)\\]\u300d\u300f\uff09*_`"
_WIDE_ENDS, _WIDE_COMMAS = "\u3002\uff01\uff1f\uff61", "\u3001\uff0c\uff1b\uff1a"
_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff"
# A candidate ends before the next visible character. Scripts without spaces have no space after punctuation.
_END = re.compile(
    rf"[.!?\u2026\u0964\u0965\u061f\u06d4]+[{_CLOSERS}]*\s+(?=\S)"
    rf"|[{_WIDE_ENDS}]+[{_CLOSERS}]*\s*(?=[^\s{_WIDE_ENDS}{_CLOSERS}])"
    rf"|[!?]+[{_CLOSERS}]*(?=[{_NO_SPACES}])"
    r"|\s*\n\s*(?=\S)"
)
# A comma or dash between digits ends no clause: "May 5, 2024", "10 - 2".
_CLAUSE = re.compile(
    r"(?:[;:\u060c\u061b]|(?<!\d),)\s+(?=\S)|(?:,|\s[\u2013\u2014-])\s+(?=[^\s\d])|\u2014\s*(?=[^\W\d])"
    rf"|[{_WIDE_COMMAS}]\s*(?=\S)"
)
_CONTINUES = re.compile(r"[\u3001\uff0c,]|\u3068|\u3063\u3066|\u306a\u3069")
"""What follows a quotation inside a longer sentence: a comma, or a Japanese particle ("to", "tte", "nado")."""
_OPENERS = re.compile(r"[*_`~\"'\u2018\u201c\u00ab(\[\u300c\u300e\u00bf\u00a1]{0,8}")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}|\w[\w'\u2019-]*")
"""Two characters of a script without spaces count as a word."""
_ENDS = frozenset(".!?\u2026\u0964\u0965\u061f\u06d4" + _WIDE_ENDS)
_ORDINAL = re.compile(r"\d\.$")
ORDINALS = frozenset(
    ("cs", "da", "de", "et", "eu", "fi", "hr", "hu", "is", "lb", "lv", "nb", "nn", "no", "pl", "sk", "sl", "sr", "tr")
)
"""Languages that write ordinal numbers with a full stop: "am 3. Oktober"."""
_SPACE = re.compile(r"\s")
_LETTER = re.compile(r"[^\W\d_]")

CONJUNCTIONS: dict[str, tuple[str, ...]] = {
    "en": ("and", "but", "because", "although", "unless"),
    "de": ("und", "oder"),
    "es": ("y", "pero", "porque", "aunque", "cuando"),
    "fr": ("et", "mais", "parce", "quand"),
    "it": ("e", "ma", "perché", "quando"),
    "pt": ("e", "mas", "porque", "quando"),
    "nl": ("en", "omdat"),
    "hi": ("और", "लेकिन", "क्योंकि"),
}
"""Words before which a clause may end without a comma. Ambiguous words are left out: "not so bad", "as if", "wait a
while", "was machst du denn"."""

ABBREVIATIONS: dict[str, frozenset[str]] = {
    "en": frozenset({"dr", "mr", "mrs", "ms", "prof", "approx"}),
    "fr": frozenset({"m", "mm", "me"}),
    "hi": frozenset({"डॉ", "डा", "श्री", "प्रो", "कु"}),
    "ru": frozenset({"т.е", "т.к", "т.н", "напр"}),
}
"""Abbreviations that never end a sentence, and that the library does not recognise in every context ("Dr. Who")."""


class SentenceCutter:
    """Takes deltas, and returns each sentence as soon as its end is certain."""

    def __init__(self, language: str, first_words: int = 0) -> None:
        """`language`: BCP 47. `first_words`: minimum number of words of a first clause; 0: whole sentences only.

        A shorter first sentence ("Sure!") does not count as the first clause: it is spoken before the next sentence is
        complete, so that sentence may be cut at a clause, too.
        """
        self._language = language.partition("-")[0].lower() or "en"
        self._first_words = first_words
        self._ordinals = self._language in ORDINALS
        words = "|".join(map(re.escape, CONJUNCTIONS.get(self._language, ())))
        self._abbreviations = ABBREVIATIONS.get(self._language, frozenset())
        self._conjunction = re.compile(rf"\s+(?=(?:{words})\s)") if words else None
        self._text = ""
        self._finished = False
        self._searched = 0  # candidates before this position were rejected

    def feed(self, delta: str) -> list[str]:
        """Return the pieces that this delta completes."""
        self._text += delta
        found: list[str] = []
        while (end := self._next_end()) is not None:
            found.append(self._text[:end].strip())
            if len(_WORD.findall(self._text[:end])) >= self._first_words:
                self._first_words = 0
            self._text, self._searched = self._text[end:], 0
        return [text for text in found if text]

    def finish(self) -> list[str]:
        """Return the remaining pieces at the end of the reply."""
        self._finished = True
        found = self.feed("")
        rest, self._text = self._text.strip(), ""
        return [*found, rest] if rest else found

    def _next_end(self) -> int | None:
        """Return where the first piece of the text ends; None if that is not certain yet."""
        while True:
            candidates = [
                (match.end(), judge)
                for pattern, judge in (
                    (_END, self._is_end),
                    (_CLAUSE if self._first_words else None, self._is_clause),
                    (self._conjunction if self._first_words else None, self._is_clause),
                )
                if pattern is not None and (match := pattern.search(self._text, self._searched)) is not None
            ]
            end, judge = min(candidates, key=lambda one: one[0], default=(None, None))
            if len(self._text) > LONGEST and (end is None or end > LONGEST):
                return self._forced_cut()
            if end is None or judge is None:
                return None
            verdict = judge(end)
            if verdict is None:
                return None
            if verdict:
                return end
            # Continue behind the punctuation, so that "?!" is one candidate.
            self._searched = end

    def _is_clause(self, end: int) -> bool | None:
        return len(_WORD.findall(self._text[:end])) >= self._first_words

    def _is_end(self, end: int) -> bool | None:
        piece = self._text[:end]
        said = piece.rstrip()
        if not _LETTER.search(piece):
            return False  # "1." starts a list item
        if "\n" in piece[len(said) :]:
            return True
        bare = said.rstrip(_MARKUP + _BRACKETS)
        start = _OPENERS.match(self._text, end).end()  # type: ignore[union-attr]  # it also matches the empty string
        if start == len(self._text):
            return False if self._finished else None
        if said[-1] not in _ENDS and _CONTINUES.match(self._text, end):
            return False
        if bare.rstrip(".").rsplit(maxsplit=1)[-1].lstrip("([\"'*_").lower() in self._abbreviations:
            return False
        if len(bare) < len(said.rstrip(_MARKUP)) and self._text[start].islower():
            return False  # "(really?) he said"
        if not (self._ordinals and _ORDINAL.search(bare)) and self._is_boundary(bare, self._text[start]):
            return True
        space = _SPACE.search(self._text, start, start + MAX_WORD)
        if space is None and len(self._text) < start + MAX_WORD and not self._finished:
            return None
        word = self._text[start : start + MAX_WORD if space is None else space.start()]
        return self._is_boundary(bare, word.rstrip(",;:") or word)

    def _is_boundary(self, before: str, after: str) -> bool:
        """Whether the library splits the text between `before` and `after`."""
        *first, last = sentencex.segment(self._language, f"{before} {after}")
        return bool(first) and last.strip() == after

    def _forced_cut(self) -> int:
        """Return where to cut a sentence that is too long: after a comma in its second half, else at a space."""
        space = self._text.rfind(" ", 1, LONGEST)
        clauses = [match.end() for match in _CLAUSE.finditer(self._text, LONGEST // 2, LONGEST + 1)]
        return max(clauses) if clauses else space if space > 0 else LONGEST
