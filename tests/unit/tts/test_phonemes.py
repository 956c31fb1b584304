"""Phonemes of words, and cutting sentences into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.phonemes import (
    FIRST_LONGEST,
    LONGEST,
    Pronounced,
    aligned,
    language_code,
    load_phonemizer,
    pieces,
)

SENTENCE = "Hello there, my friend!"


@pytest.mark.parametrize(
    ("language", "code"),
    [("en", "a"), ("en-US", "a"), ("en-GB", "b"), ("hi-IN", "h"), ("pt_BR", "p"), ("zh-CN", "z"), ("de", None)],
)
def test_language_codes(language: str, code: str | None) -> None:
    assert language_code(language) == code


@pytest.mark.parametrize("code", ["a", "b"])
def test_english_phonemes_are_in_kokoros_vocabulary(code: str) -> None:
    words = load_phonemizer(code)(SENTENCE)
    assert [word.word for word in words] == SENTENCE.split()
    assert words[1].phonemes.endswith(",")
    assert words[0].phonemes.startswith("həlˈ")
    assert words[0].phonemes.endswith({"a": "O", "b": "Q"}[code])


def test_words_read_as_several_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    words = load_phonemizer("a")("It costs $3.50 now.")
    assert [word.word for word in words] == ["It", "costs", "$3.50", "now."]
    assert not caplog.records


def test_hindi_phonemes_are_aligned_with_words() -> None:
    words = load_phonemizer("h")("नमस्ते दुनिया, आप कैसे हैं?")
    assert [word.word for word in words] == ["नमस्ते", "दुनिया,", "आप", "कैसे", "हैं?"]
    assert words[0].phonemes == "nəmˈʌsteː"


@pytest.mark.parametrize(("code", "extra"), [("j", "EXTRAS=japanese"), ("z", "EXTRAS=chinese")])
def test_a_missing_language_package_is_named(code: str, extra: str) -> None:
    with pytest.raises(ValueError, match=extra):
        load_phonemizer(code)


def test_phonemes_are_distributed_if_the_counts_differ() -> None:
    assert aligned("it costs $3.50 now", "ɪt kˈɔsts dˈɑləɹ θɹˈi fˈɪfti nˈW") == [
        Pronounced("it", "ɪt"),
        Pronounced("costs", "kˈɔsts dˈɑləɹ"),
        Pronounced("$3.50", "θɹˈi fˈɪfti"),
        Pronounced("now", "nˈW"),
    ]


@given(st.lists(st.text("abc", min_size=1, max_size=8), max_size=8), st.lists(st.text("xyz", min_size=1), max_size=8))
def test_no_word_and_no_phoneme_is_lost(words: list[str], sounds: list[str]) -> None:
    found = aligned(" ".join(words), " ".join(sounds))
    if words and sounds:
        assert [one.word for one in found] == words
        assert " ".join(one.phonemes for one in found if one.phonemes).split() == sounds


@given(
    st.lists(
        st.builds(Pronounced, st.just("word"), st.text("əɪ", min_size=1, max_size=30) | st.just("wˈɜɹd,")), max_size=80
    )
)
def test_pieces_are_short_and_complete(words: list[Pronounced]) -> None:
    found = pieces(words)
    assert [word for piece in found for word in piece] == words
    for number, piece in enumerate(found):
        size = sum(len(word.phonemes) + 1 for word in piece)
        assert size <= LONGEST or len(piece) == 1
        if not number and any(word.phonemes.endswith(",") for word in words[: len(piece)]) and len(found) > 1:
            assert size <= LONGEST


def test_the_first_piece_is_short_and_ends_at_punctuation() -> None:
    words = [Pronounced("w", "əəəəə")] * 10 + [Pronounced("w,", "əəəə,")] + [Pronounced("w", "əəəəə")] * 40
    first, rest = pieces(words)
    assert len(first) == 11
    assert len(rest) == 40
    assert sum(len(word.phonemes) + 1 for word in first) <= FIRST_LONGEST
