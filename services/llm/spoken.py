"""Convert a reply to the sentences that are spoken: without Markdown, HTML, emoji and the paths of URLs. Pure.

Numbers, dates and symbols keep their written form: the tts stage reads them out, by language and engine.
"""

import regex

from services.llm.markup import MarkupReader
from services.llm.sentences import SentenceCutter

# Unicode counts signs such as © as pictographs; they are read as words, so they stay. So do arrows.
_EMOJI = regex.compile(
    r"(?:(?![\u00a9\u00ae\u2122\u2139\u2190-\u21ff])\p{Extended_Pictographic}|\p{Regional_Indicator}|[0-9#*]\ufe0f?\u20e3)"
    r"[\ufe0e\ufe0f\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
)
_URL = regex.compile(
    r"\b(?:https?://|www\.)(?:www\.)?([\w.-]*\w)(?:[/:?#](?:[^\s<>\"'()\]]*[\w/=&])?(?:\([^\s()]*\))?)?",
    regex.IGNORECASE,
)
_REPLACEMENTS = (
    (regex.compile(r"^[\s|:=-]*$", regex.MULTILINE), ""),  # a rule, or the line below the head of a table
    (regex.compile(r"^\s*(?:(?:#{1,6}(?=\s)|>|[-*+\u2022\u25aa\u25e6](?=\s))\s*)+", regex.MULTILINE), ""),
    (regex.compile(r"(?<=\d)\s*\*\*\s*(?=\d)"), " to the power of "),
    (regex.compile(r"(?<=\d)\s*[*\u00d7]\s*(?=\d)"), " times "),
    (regex.compile(r"[*`]+|~~+|(?<!\w)_+|_+(?!\w)|^-{2,}|={2,}"), ""),
    (regex.compile(r"\s*\|\s*"), ", "),
    (regex.compile(r"([!?])[!?]*(?:\1)"), r"\1"),
    (regex.compile(r"\.{4,}"), "..."),
    (regex.compile(r"\s+"), " "),
    (regex.compile(r"\(\s*\)|\[\s*\]"), ""),
    (regex.compile(r"\s+([,.!?;:])"), r"\1"),
)
_WORD = regex.compile(r"[\p{L}\p{N}]")
_LETTERS = regex.compile(r"\p{L}[\p{L}\p{M}\p{N}'\u2019-]*")


class SpokenSentences:
    """Takes the deltas of one reply, and returns each spoken sentence as soon as its end is certain."""

    def __init__(self, language: str, first_words: int = 0) -> None:
        """See `SentenceCutter`."""
        self._reader, self._cutter = MarkupReader(language), SentenceCutter(language, first_words)
        self._unspoken: str | None = ""  # the reply; None: some of it is spoken

    def feed(self, delta: str) -> list[str]:
        """Return the sentences that this delta completes."""
        return self._spoken(delta, self._cutter.feed(self._reader.feed(delta)))

    def finish(self) -> list[str]:
        """Return the remaining sentences at the end of the reply. A reply with letters is never silent."""
        rest = self._spoken("", [*self._cutter.feed(self._reader.finish()), *self._cutter.finish()])
        words = _LETTERS.findall(self._unspoken or "")
        return rest or ([" ".join(words)] if words else [])

    def _spoken(self, delta: str, pieces: list[str]) -> list[str]:
        found = [text for piece in pieces if (text := speakable(piece))]
        self._unspoken = None if found or self._unspoken is None else self._unspoken + delta
        return found


def speakable(piece: str) -> str:
    """Return the spoken form of a sentence without the marks of emphasis, lists and tables; empty if it has no words."""
    words = _URL.sub(r"\1", _EMOJI.sub(" ", piece))
    for pattern, replacement in _REPLACEMENTS:
        words = pattern.sub(replacement, words)
    words = words.strip(" ,").strip()
    return words if _WORD.search(words) else ""
