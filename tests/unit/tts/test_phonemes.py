"""Phonemes of words, by language."""

import pytest

from services.tts.engines.phonemes import language_code, load_phonemizer

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
