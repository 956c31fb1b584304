"""Convert written text to spoken text: "$5" to "five dollars", by language. Pure, and fast enough for every sentence.

`normalize` returns the parts, so that the times of the spoken words can be mapped back to what is written: see `timings`.
"""

from functools import cache

from services.tts.normalizer import dates, names, quantities, signs
from services.tts.normalizer.english import BritishEnglish, English
from services.tts.normalizer.french import French
from services.tts.normalizer.german import German
from services.tts.normalizer.hindi import Hindi
from services.tts.normalizer.language import Language
from services.tts.normalizer.numbers import latin_digits
from services.tts.normalizer.rules import Rule, Span, apply
from services.tts.normalizer.spanish import Spanish

_LANGUAGES: dict[str, type[Language]] = {"de": German, "en": English, "es": Spanish, "fr": French, "hi": Hindi}
_MONTH_FIRST = frozenset(("", "us", "ca", "ph", "pr"))
"""Regions of English with the month before the day; empty: none is named."""
LANGUAGES = frozenset(_LANGUAGES)
"""The primary subtags of the languages that are normalized."""


def normalize(text: str, language: str) -> list[Span]:
    """Return a sentence in parts, each as it is written and as it is said.

    `language`: BCP 47. A text in another language than `LANGUAGES` stays as it is.
    """
    rules = _rules(language.lower().replace("_", "-"))
    if not rules:
        return [Span(text, text)]
    spans, at = [], 0
    for span in apply(rules, latin_digits(text)):
        written = text[at : at + len(span.written)]
        spans.append(Span(written, written if span.spoken == span.written else span.spoken))
        at += len(span.written)
    return spans


def spoken(spans: list[Span]) -> str:
    """Return the text to say."""
    return "".join(span.spoken for span in spans)


def prepare(language: str) -> None:
    """Compile the rules of a language, so that the first sentence does not wait for it."""
    for span in ("12:30, 3/4, $5.", "1st"):
        normalize(span, language)


@cache
def _rules(tag: str) -> tuple[Rule, ...]:
    primary, region, *_ = (*tag.split("-"), "")
    kind = _LANGUAGES.get(primary)
    if kind is None:
        return ()
    language = BritishEnglish() if kind is English and region not in _MONTH_FIRST else kind()
    return tuple(rule for part in (names, dates, quantities, signs) for rule in part.rules(language))
