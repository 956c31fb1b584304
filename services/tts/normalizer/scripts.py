"""Cut a text into runs by script, each for a language that is written in it. Pure.

Latin letters stay with the text around them: every engine reads names and words in them.
"""

from collections.abc import Collection, Iterable
from functools import cache
from typing import NamedTuple

import regex

_LANGUAGES: dict[str, tuple[str, ...]] = {
    "Han": ("zh", "ja"), "Hangul": ("ko",), "Devanagari": ("hi", "mr", "ne", "sa"), "Bengali": ("bn", "as"), "Gurmukhi": ("pa",),
    "Gujarati": ("gu",), "Oriya": ("or",), "Tamil": ("ta",), "Telugu": ("te",), "Kannada": ("kn",), "Malayalam": ("ml",),
    "Sinhala": ("si",), "Thai": ("th",), "Lao": ("lo",), "Myanmar": ("my",), "Khmer": ("km",), "Georgian": ("ka",), "Armenian": ("hy",),
    "Greek": ("el",), "Hebrew": ("he", "yi"), "Arabic": ("ar", "fa", "ur", "ps", "sd", "ug", "ku"), "Ethiopic": ("am", "ti"),
    "Cyrillic": ("ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "tg", "mn", "tt", "uz", "az", "bs"),
}  # fmt: skip
"""Scripts other than Latin, and the languages that are written in them; the most usual first. Han includes kana."""
_KANA = r"\p{Script=Hiragana}\p{Script=Katakana}\u30fc"
_HAS_KANA = regex.compile(f"[{_KANA}]")
_HAS_KANJI = regex.compile(r"\p{Script=Han}")
_BETWEEN = r"\p{M}\p{P}\p{Zs}\p{Nd}"


class Run(NamedTuple):
    text: str
    language: str
    """BCP 47; empty: there is no voice for its script."""


def runs(text: str, language: str, known: Collection[str]) -> list[Run]:
    """Return the text in runs. `language`: of the text. `known`: primary subtags that can be spoken, and `ja-Hira` for kana
    without kanji."""
    found, done = [], 0
    primary = language.partition("-")[0].lower()
    for match in _foreign(primary).finditer(text):
        if match.lastgroup == "Greek" and len(match[0]) == 1:
            continue  # a sign: \u03c0, \u03a9
        candidates = _LANGUAGES[str(match.lastgroup)]
        if match.lastgroup == "Han" and _HAS_KANA.search(match[0]):
            candidates = ("ja",) if _HAS_KANJI.search(match[0]) else ("ja", "ja-Hira")
        spoken = next((one for one in candidates if one in known), "")
        found += [Run(text[done : match.start()], language), Run(match[0], spoken)]
        done = match.end()
    return _with_words([*found, Run(text[done:], language)])


def _with_words(parts: Iterable[Run]) -> list[Run]:
    """Join what has no words, such as a full stop, with the run before it, or with the one after it."""
    found: list[Run] = []
    opening = ""
    for part in parts:
        if any(char.isalnum() for char in part.text):
            found.append(Run(opening + part.text, part.language))
            opening = ""
        elif found:
            found[-1] = Run(found[-1].text + part.text, found[-1].language)
        else:
            opening += part.text
    return found


@cache
def _foreign(primary: str) -> regex.Pattern[str]:
    """Return a pattern of the runs in scripts that the language is not written in."""
    families = []
    for script, languages in _LANGUAGES.items():
        letter = rf"\p{{Script={script}}}{_KANA if script == 'Han' else ''}"
        if primary not in languages:
            families.append(rf"(?P<{script}>[{letter}](?:[{letter}{_BETWEEN}]*[{letter}])?\p{{M}}*)")
    return regex.compile("|".join(families))
