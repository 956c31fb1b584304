"""What the words at a pause tell about whether the turn is over, by rules and by language. Pure.

The rules look at how the words end: in a function word, a hesitation, the beginning of a sentence, an unfinished number or list;
or in what is a turn by itself. The words of each language are in `phrases/*.toml`. A language without a file has no opinion.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "de", "es", "fr", "hi")
_MARKS = ".,!?;:…\"'“”„«»()[]¿¡।-–—"
_SENTENCE_END = re.compile(r"(?<=[.!?।…])\s+")
_CLAUSE_END = re.compile(r"[.,;:!?।…–—]\s+")
_BREAKS_OFF = re.compile(r"(\.\.\.|…|[,;:–—-])\W*$")
_DIGITS = re.compile(r"[\d.,/-]*\d[\d.,/-]*")
LAST_ITEM_WORDS = 3
"""An item of a list has at most this many words."""
SUBORDINATE_WORDS = 6
"""A longer sentence that begins with a subordinate clause probably has its main clause, too."""
SHORT_NUMBER, DICTATED_DIGITS = 4, 7
"""A number that is dictated digit by digit has at least four, and mostly at least seven."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for or against the end of the turn."""

    log_odds: float
    """Natural logarithm of how much more often this is seen at the end of a turn than at a pause within one."""
    reason: str
    """For people who look at a trace."""
    weak: bool = False
    """A misheard ending gives it, too."""


HESITATION = Evidence(-5.0, "hesitation")
FUNCTION_WORD = Evidence(-5.0, "ends in a function word")
OPENING = Evidence(-4.0, "beginning of a sentence")
NUMBER = Evidence(-4.0, "unfinished number")
ALMOST_NUMBER = Evidence(-1.5, "number that may lack digits")
BREAKS_OFF = Evidence(-3.0, "breaks off")
SUBORDINATE = Evidence(-3.0, "subordinate clause alone")
LIST = Evidence(-2.5, "unfinished list")
RARE_END = Evidence(-2.0, "ends in a word that rarely ends a turn")
SHORT_LIST = Evidence(-2.2, "perhaps a list")
OPEN_END = Evidence(-0.5, "ends in a word that may go on")
UNMARKED = Evidence(0.0, "no end of a sentence", weak=True)
SENTENCE = Evidence(1.0, "sentence", weak=True)
QUESTION = Evidence(2.0, "question")
WHOLE_NUMBER = Evidence(2.5, "whole number")
WHOLE = Evidence(4.0, "turn by itself")


@dataclass(frozen=True, slots=True)
class Phrases:
    """The words of one language, as its file explains them. Phrases are tuples of words."""

    open: frozenset[str]
    rarely: frozenset[str]
    sometimes: frozenset[str]
    stranded: frozenset[str]
    clefts: frozenset[tuple[str, ...]]
    questions: frozenset[str]
    fillers: frozenset[str]
    opening: frozenset[tuple[str, ...]]
    subordinate: frozenset[tuple[str, ...]]
    whole: frozenset[tuple[str, ...]]
    conjunctions: frozenset[str]
    digits: frozenset[str]
    numbers: Mapping[tuple[str, ...], int]


def phrases_of(language: str) -> Phrases | None:
    """Return the words of a language, given as a BCP 47 tag; None: there are none."""
    subtag = language.lower().replace("_", "-").partition("-")[0]
    return _load(subtag) if subtag in LANGUAGES else None


@cache
def _load(subtag: str) -> Phrases:
    found = tomllib.loads((files(__package__) / "phrases" / f"{subtag}.toml").read_text("utf-8"))

    def words(name: str) -> frozenset[str]:
        return frozenset(found[name].split())

    def phrases(name: str) -> frozenset[tuple[str, ...]]:
        return frozenset(tuple(one.split()) for one in re.split("[/\n]", found[name]) if one.strip())

    return Phrases(
        open=words("open"),
        rarely=words("rarely"),
        sometimes=words("sometimes"),
        stranded=words("stranded"),
        clefts=phrases("clefts"),
        questions=words("questions"),
        fillers=words("fillers"),
        opening=phrases("opening"),
        subordinate=phrases("subordinate"),
        whole=phrases("whole"),
        conjunctions=words("conjunctions"),
        digits=words("digits"),
        numbers={tuple(name.split()): digits for name, digits in found["numbers"].items()},
    )


def evidence(text: str, language: str) -> Evidence | None:
    """Return what the end of these words tells; None: there are no words, or none of this language are known."""
    known = phrases_of(language)
    words = _words(text)
    if known is None or not words:
        return None
    return next(_opinions(text.strip(), words, known))


def _opinions(text: str, words: Sequence[str], known: Phrases) -> Iterator[Evidence]:
    """The opinions of all rules that apply; those before others are more certain."""
    sentence = _SENTENCE_END.split(text)[-1]
    last, ending = words[-1], _words(sentence)
    clause = _words(_CLAUSE_END.split(text)[-1])
    asks = not known.questions.isdisjoint(ending[:-1]) and not _begins_with(ending, known.clefts)
    if last in known.fillers:
        yield HESITATION
    if (
        tuple(words) in known.whole
        or tuple(ending) in known.whole
        or (len(clause) < len(words) and tuple(clause) in known.whole)
    ):
        yield WHOLE
    if _ends_in(ending, clause, known.opening):
        yield OPENING
    if last in known.open | known.rarely and not (last in known.stranded and asks):
        yield FUNCTION_WORD if last in known.open else RARE_END
    yield from _number(words, known)
    if _BREAKS_OFF.search(text):
        yield BREAKS_OFF
    yield from _list(sentence, known)
    short = len(ending) <= SUBORDINATE_WORDS and "," not in sentence and not text.endswith("?")
    if short and _begins_with(ending, known.subordinate):
        yield SUBORDINATE
    if last in known.sometimes and not asks:
        yield OPEN_END
    yield QUESTION if text.endswith("?") else SENTENCE if text[-1] in ".!।" else UNMARKED


def _ends_in(ending: Sequence[str], clause: Sequence[str], phrases: frozenset[tuple[str, ...]]) -> bool:
    """Whether the sentence ends in one of these. A phrase of one word counts only where it is a clause by itself."""
    long = any(tuple(ending[-count:]) in phrases for count in range(2, 7) if count <= len(ending))
    return long or (len(clause) == 1 and tuple(clause) in phrases)


def _begins_with(ending: Sequence[str], phrases: frozenset[tuple[str, ...]]) -> bool:
    return any(tuple(ending[:count]) in phrases for count in range(1, 5))


def _number(words: Sequence[str], known: Phrases) -> Iterator[Evidence]:
    """The digits at the end, if they belong to a number of known length or are dictated."""
    digits, first = 0, len(words)
    while first and (count := _digits_in(words[first - 1], known)):
        digits, first = digits + count, first - 1
    if not digits:
        return
    named = [length for name, length in known.numbers.items() if _contains(words[:first], name)]
    if named:
        missing = max(named) - digits
        yield NUMBER if missing > 1 else ALMOST_NUMBER if missing == 1 else WHOLE_NUMBER
    elif 1 < digits < DICTATED_DIGITS and _is_dictated(words[first:]):
        yield NUMBER if digits < SHORT_NUMBER else ALMOST_NUMBER


def _is_dictated(number: Sequence[str]) -> bool:
    """Whether some of these digits were said one by one, or after a zero."""
    groups = [group for word in number for group in re.split(r"\D+", word) if group]
    alone = any(len(group) == 1 for group in groups) and len(groups) > 1
    return alone or number[0].startswith("0") or len(groups) < len(number) > 1


def _digits_in(word: str, known: Phrases) -> int:
    """The digits, or spelled letters, that this word stands for; 0: it is another word."""
    if _DIGITS.fullmatch(word):
        return sum(map(str.isdigit, word))
    return int(
        word in known.digits or (len(word) == 1 and word.isascii() and word.isalpha() and word not in known.open)
    )


def _contains(words: Sequence[str], phrase: tuple[str, ...]) -> bool:
    return any(tuple(words[at : at + len(phrase)]) == phrase for at in range(len(words)))


def _list(sentence: str, known: Phrases) -> Iterator[Evidence]:
    """Short items between commas, and no conjunction before the last one."""
    items = [_words(item) for item in sentence.split(",")]
    no_item = known.conjunctions | known.questions
    if tuple(items[0]) in known.whole:  # "No, I don't."
        return
    if len(items) > 1 and len(items[-1]) <= LAST_ITEM_WORDS and no_item.isdisjoint(items[-1]):
        inner = [item for item in items[1:-1] if len(item) <= LAST_ITEM_WORDS]
        yield LIST if inner else SHORT_LIST


def _words(text: str) -> list[str]:
    """The words in lower case, without the marks around them."""
    found = (word.strip(_MARKS) for word in text.replace("’", "'").casefold().split())
    return [word for word in found if word]
