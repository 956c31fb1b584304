"""Cut a reply into what is spoken at one go, while it is being made. Pure; where sentences end is a library's knowledge.

A first clause comes early, so that the voice can begin; then whole sentences. However the text comes, in letters or all
at once, the pieces are the same: each boundary is judged at set places, with the first letter after it and, where that
does not settle it ("me. A…" may be an abbreviation, "3. O…" a date), with the first word. A second worker, which reads in
one go what the first one said, counts on that.
"""

import re

import sentencex

LONGEST = 400
"""Characters after which a sentence is cut where it can be: nobody should wait for the full stop of a list."""

LONGEST_WORD = 40
"""Characters after which nobody waits for the end of a word."""

_MARKUP, _BRACKETS = "*_`~", ")]\uff09"
_CLOSERS = "\"'\u2019\u201d\u00bb)\\]\u300d\u300f\uff09*_`"
_WIDE_ENDS, _WIDE_COMMAS = "\u3002\uff01\uff1f\uff61", "\u3001\uff0c\uff1b\uff1a"
_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff"
# A candidate ends before the first character of what follows. Scripts without spaces need none after their marks.
_END = re.compile(
    rf"[.!?\u2026\u0964\u0965\u061f\u06d4]+[{_CLOSERS}]*\s+(?=\S)"
    rf"|[{_WIDE_ENDS}]+[{_CLOSERS}]*\s*(?=[^\s{_WIDE_ENDS}{_CLOSERS}])"
    rf"|[!?]+[{_CLOSERS}]*(?=[{_NO_SPACES}])"
    r"|\s*\n\s*(?=\S)"
)
# Not within "May 5, 2024" and "10 - 2".
_CLAUSE = re.compile(
    r"(?:[;:\u060c\u061b]|(?<!\d),)\s+(?=\S)|(?:,|\s[\u2013\u2014-])\s+(?=[^\s\d])|\u2014\s*(?=[^\W\d])"
    rf"|[{_WIDE_COMMAS}]\s*(?=\S)"
)
_GOES_ON = re.compile(r"[\u3001\uff0c,]|\u3068|\u3063\u3066|\u306a\u3069")
"""After a quotation: a comma, or what makes it part of a Japanese sentence ("to", "tte", "nado")."""
_OPENERS = re.compile(r"[*_`~\"'\u2018\u201c\u00ab(\[\u300c\u300e\u00bf\u00a1]{0,8}")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}|\w[\w'\u2019-]*")
"""Two characters of a script without spaces count as a word."""
_ENDS = frozenset(".!?\u2026\u0964\u0965\u061f\u06d4" + _WIDE_ENDS)
_ORDINAL = re.compile(r"\d\.$")
ORDINALS = frozenset(
    ("cs", "da", "de", "et", "eu", "fi", "hr", "hu", "is", "lb", "lv", "nb", "nn", "no", "pl", "sk", "sl", "sr", "tr")
)
"""Languages in which a number with a full stop may go on: "am 3. Oktober"."""
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
"""Where a clause may end without a comma and it still sounds like one. Not words with a second use: "not so bad",
"as if", "wait a while", "was machst du denn"."""

ABBREVIATIONS: dict[str, frozenset[str]] = {
    "en": frozenset({"dr", "mr", "mrs", "ms", "prof", "approx"}),
    "fr": frozenset({"m", "mm", "me"}),
    "hi": frozenset({"डॉ", "डा", "श्री", "प्रो", "कु"}),
    "ru": frozenset({"т.е", "т.к", "т.н", "напр"}),
}
"""Words that end no sentence, whatever follows, and that the library does not know or doubts ("Dr. Who")."""


class SentenceCutter:
    """Feed it deltas; it gives sentences as soon as it is sure that they are over."""

    def __init__(self, language: str, first_words: int = 0) -> None:
        """`first_words`: a first clause may end after so many words at least; 0: only whole sentences.

        What is shorter ("Sure!") is no first clause: it is over before the sentence after it is made.
        """
        self._language = language.partition("-")[0].lower() or "en"
        self._first_words = first_words
        self._ordinals = self._language in ORDINALS
        words = "|".join(map(re.escape, CONJUNCTIONS.get(self._language, ())))
        self._abbreviations = ABBREVIATIONS.get(self._language, frozenset())
        self._conjunction = re.compile(rf"\s+(?=(?:{words})\s)") if words else None
        self._text = ""
        self._over = False
        self._looked = 0  # candidates before this were judged

    def feed(self, delta: str) -> list[str]:
        """The pieces that this delta completed."""
        self._text += delta
        found: list[str] = []
        while (end := self._next_end()) is not None:
            found.append(self._text[:end].strip())
            if len(_WORD.findall(self._text[:end])) >= self._first_words:
                self._first_words = 0
            self._text, self._looked = self._text[end:], 0
        return [text for text in found if text]

    def finish(self) -> list[str]:
        """What is left when the reply is over."""
        self._over = True
        found = self.feed("")
        rest, self._text = self._text.strip(), ""
        return [*found, rest] if rest else found

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
                return self._anywhere()
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
        said = piece.rstrip()
        if not _LETTER.search(piece):
            return False  # "1." begins an item
        if "\n" in piece[len(said) :]:
            return True
        bare = said.rstrip(_MARKUP + _BRACKETS)
        start = _OPENERS.match(self._text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
        if start == len(self._text):
            return False if self._over else None
        if said[-1] not in _ENDS and _GOES_ON.match(self._text, end):
            return False
        if bare.rstrip(".").rsplit(maxsplit=1)[-1].lstrip("([\"'*_").lower() in self._abbreviations:
            return False
        if len(bare) < len(said.rstrip(_MARKUP)) and self._text[start].islower():
            return False  # "(really?) he said"
        if not (self._ordinals and _ORDINAL.search(bare)) and self._parts(bare, self._text[start]):
            return True
        space = _SPACE.search(self._text, start, start + LONGEST_WORD)
        if space is None and len(self._text) < start + LONGEST_WORD and not self._over:
            return None
        word = self._text[start : start + LONGEST_WORD if space is None else space.start()]
        return self._parts(bare, word.rstrip(",;:") or word)

    def _parts(self, before: str, after: str) -> bool:
        """Whether the library, which knows the language, sees a boundary there."""
        *first, last = sentencex.segment(self._language, f"{before} {after}")
        return bool(first) and last.strip() == after

    def _anywhere(self) -> int:
        """Where to cut a sentence that is too long: best after a comma, in the later half of it."""
        space = self._text.rfind(" ", 1, LONGEST)
        clauses = [match.end() for match in _CLAUSE.finditer(self._text, LONGEST // 2, LONGEST + 1)]
        return max(clauses) if clauses else space if space > 0 else LONGEST
