"""Grapheme-to-phoneme conversion for Kokoro, with misaki. Used by one thread; nothing is downloaded."""

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import structlog

from services.tts.engines.pronunciation import Pronounced, aligned
from shared.distribution import Extra, not_installed

log = structlog.get_logger()

LANGUAGES = {"en": "a", "es": "e", "fr": "f", "hi": "h", "it": "i", "ja": "j", "pt": "p", "zh": "z"}
"""Kokoro's letter by BCP 47 language. British English (en-GB) is `b`."""

_ESPEAK = {"e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
_SPACY_MODEL = "en_core_web_sm"

_NEEDS = {"ja": "pyopenjtalk", "zh": "jieba"}
"""Packages of extras without which misaki cannot read a language."""

Phonemizer = Callable[[str], list[Pronounced]]


def language_code(language: str) -> str | None:
    """Return Kokoro's letter for a BCP 47 language; None if Kokoro does not speak it."""
    tag = language.lower().replace("_", "-")
    if tag in ("en-gb", "en-au", "en-nz", "en-ie", "en-in", "en-za"):
        return "b"
    return LANGUAGES.get(tag.partition("-")[0])


def installed_languages() -> frozenset[str]:
    """Return the languages whose phonemizers are installed."""
    return frozenset(tag for tag in LANGUAGES if tag not in _NEEDS or find_spec(_NEEDS[tag]))


def load_phonemizer(code: str) -> Phonemizer:
    """Load the phonemizer of a language, given as Kokoro's letter.

    Raises:
        ValueError: the language needs a package that is not installed; the message says which.
    """
    phonemizer = _load_phonemizer(code)
    logging.getLogger("phonemizer").setLevel(logging.ERROR)  # it warns whenever it reads a word as two
    return phonemizer


def _load_phonemizer(code: str) -> Phonemizer:
    if code in _ESPEAK:
        from misaki.espeak import EspeakG2P

        g2p = EspeakG2P(language=_ESPEAK[code])
        return lambda text: aligned(text, g2p(text)[0])
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
        raise ValueError(not_installed(f"Kokoro's phonemizer for {extra.title()}", extra, error.name)) from error


def _english(*, british: bool) -> Phonemizer:
    """Return misaki's English phonemizer if its spaCy model is installed, else espeak-ng's with the same phonemes."""
    import spacy.util
    from misaki.espeak import EspeakFallback

    fallback = EspeakFallback(british=british)
    if spacy.util.is_package(_SPACY_MODEL):
        from misaki import en

        g2p = en.G2P(trf=False, british=british, fallback=fallback, unk="")
        return lambda text: from_tokens(g2p(text)[1])
    log.warning(
        "English pronounced by espeak-ng: the spaCy model is missing",
        install=f"python -m spacy download {_SPACY_MODEL}",
    )
    return lambda text: aligned(text, fallback(SimpleNamespace(text=text))[0] or "")


def from_tokens(tokens: Sequence[Any]) -> list[Pronounced]:
    """Join misaki's tokens to words: a word ends at a space."""
    found: list[Pronounced] = []
    word = phonemes = ""
    for token in tokens:
        word += token.text
        phonemes += token.phonemes or ""
        if token.whitespace:
            found.append(Pronounced(word, phonemes))
            word = phonemes = ""
    return [*found, Pronounced(word, phonemes)] if word else found
