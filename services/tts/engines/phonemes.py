"""How Kokoro's authors write speech: misaki's phonemes for nine languages. Used by one thread; nothing is downloaded."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import structlog

from shared.distribution import Extra, not_installed

log = structlog.get_logger()

LANGUAGES = {"en": "a", "es": "e", "fr": "f", "hi": "h", "it": "i", "ja": "j", "pt": "p", "zh": "z"}
"""By BCP 47, Kokoro's letter; British English (en-GB) is `b`."""

_ESPEAK = {"e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
_SPACY_MODEL = "en_core_web_sm"
LONGEST = 400
"""Phonemes in one call: the model takes 510, and time grows with them."""

FIRST_LONGEST = 120
"""Phonemes of the first call for a sentence, where it can be cut: the voice begins after it."""


@dataclass(frozen=True, slots=True)
class Pronounced:
    """One word of the text and its phonemes, with the marks that stand at it."""

    word: str
    phonemes: str


Speller = Callable[[str], list[Pronounced]]


def letter(language: str) -> str | None:
    """Kokoro's letter for a BCP 47 language, if it speaks it."""
    tag = language.lower().replace("_", "-")
    if tag in ("en-gb", "en-au", "en-nz", "en-ie", "en-in", "en-za"):
        return "b"
    return LANGUAGES.get(tag.partition("-")[0])


def speller(code: str) -> Speller:
    """What writes a language's phonemes, loaded.

    Raises:
        ValueError: the language needs a package that is not installed; the message says which.
    """
    made = _speller(code)
    logging.getLogger("phonemizer").setLevel(logging.ERROR)  # it warns of every word that it takes for two
    return made


def _speller(code: str) -> Speller:
    if code in _ESPEAK:
        from misaki.espeak import EspeakG2P

        spell = EspeakG2P(language=_ESPEAK[code])
        return lambda text: aligned(text, spell(text)[0])
    if code in "ab":
        return _english(british=code == "b")
    try:
        if code == "j":
            from misaki import ja

            japanese = ja.JAG2P()
            return lambda text: aligned(text, japanese(text)[0])
        from misaki import zh

        chinese = zh.ZHG2P()
        return lambda text: aligned(text, chinese(text)[0])
    except ImportError as error:
        extra: Extra = "japanese" if code == "j" else "chinese"
        raise ValueError(not_installed(f"Kokoro's reader for {extra.title()}", extra, error.name)) from error


def _english(*, british: bool) -> Speller:
    """misaki's own English where spaCy's model for it is installed; else espeak-ng's, in the same alphabet."""
    import spacy.util
    from misaki.espeak import EspeakFallback

    fallback = EspeakFallback(british=british)
    if spacy.util.is_package(_SPACY_MODEL):
        from misaki import en

        spell = en.G2P(trf=False, british=british, fallback=fallback, unk="")
        return lambda text: from_tokens(spell(text)[1])
    log.warning("English by espeak-ng", missing=_SPACY_MODEL, bring=f"python -m spacy download {_SPACY_MODEL}")
    return lambda text: aligned(text, fallback(SimpleNamespace(text=text))[0] or "")


def from_tokens(tokens: Sequence[Any]) -> list[Pronounced]:
    """misaki's tokens, those that no blank parts as one word."""
    found: list[Pronounced] = []
    word = phonemes = ""
    for token in tokens:
        word += token.text
        phonemes += token.phonemes or ""
        if token.whitespace:
            found.append(Pronounced(word, phonemes))
            word = phonemes = ""
    return [*found, Pronounced(word, phonemes)] if word else found


def aligned(text: str, phonemes: str) -> list[Pronounced]:
    """Words and their phonemes where both have the same number of parts; else each word has its share of them."""
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


def pieces(words: Sequence[Pronounced]) -> list[list[Pronounced]]:
    """Cut what is too long for one call, best after a mark; the first piece is short where it can be."""
    found: list[list[Pronounced]] = []
    rest = list(words)
    while rest:
        most = LONGEST if found else FIRST_LONGEST
        size, fits, mark = 0, 0, 0
        for count, word in enumerate(rest, 1):
            size += len(word.phonemes) + 1
            if size > most:
                break
            fits = count
            if word.phonemes[-1:] in tuple(".!?…,;:—"):
                mark = count
        if fits < len(rest) and not found and not mark:
            fits = _fitting(rest, LONGEST)  # no good place for an early beginning
        cut = fits if fits == len(rest) else mark or fits or 1
        found.append(rest[:cut])
        rest = rest[cut:]
    return found


def _fitting(words: Sequence[Pronounced], most: int) -> int:
    size = 0
    for count, word in enumerate(words):
        size += len(word.phonemes) + 1
        if size > most:
            return count
    return len(words)
