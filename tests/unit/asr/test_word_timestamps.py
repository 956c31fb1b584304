"""Word timestamps for all ways in which tokenizers mark words, and language codes of models."""

import pytest

from services.asr.engines.languages import model_language
from services.asr.engines.word_timestamps import (
    Span,
    ctc_spans,
    timed_words,
    transducer_spans,
)
from shared.protocol.session import Word


def spans(*times: tuple[int, int]) -> list[Span]:
    return [Span(0, start, end) for start, end in times]


@pytest.mark.parametrize(
    ("tokens", "times"),
    [
        (["▁ten", "▁of", "▁cl", "ubs"], [(0, 2), (3, 4), (5, 6), (7, 9)]),
        (["ten", "Ġof", "Ġcl", "ubs"], [(0, 2), (3, 4), (5, 6), (7, 9)]),
        (["▁", "ten", "▁of", "▁", "clubs"], [(0, 1), (0, 2), (3, 4), (4, 5), (5, 9)]),
        (["ten", "|", "o", "f", "|", "clubs"], [(0, 2), (2, 3), (3, 3), (3, 4), (4, 5), (5, 9)]),
    ],
)
def test_words_get_the_timestamps_of_their_tokens(tokens: list[str], times: list[tuple[int, int]]) -> None:
    assert timed_words("ten of clubs", tokens, spans(*times), 1280) == (
        Word("ten", 0, 2 * 1280),
        Word("of", 3 * 1280, 4 * 1280),
        Word("clubs", 5 * 1280, 9 * 1280),
    )


@pytest.mark.parametrize(
    ("text", "tokens"), [("ten of clubs", ["ten", "Ġof"]), ("谢谢", ["谢", "谢", "Ġ谢"]), ("", ["a"])]
)
def test_without_clear_word_boundaries_there_are_no_timestamps(text: str, tokens: list[str]) -> None:
    assert timed_words(text, tokens, spans(*((at, at + 1) for at in range(len(tokens)))), 320) == ()


def test_a_full_stop_does_not_make_its_word_longer() -> None:
    words = timed_words("ten. of", ["Ġten", ".", "Ġof"], spans((0, 2), (7, 9), (9, 12)), 320)
    assert words == (Word("ten.", 0, 2 * 320), Word("of", 9 * 320, 12 * 320))


def test_a_ctc_path_is_collapsed_with_its_steps() -> None:
    assert ctc_spans([0, 7, 7, 0, 7, 8, 8, 0, 0], blank=0) == [Span(7, 1, 3), Span(7, 4, 5), Span(8, 5, 7)]
    assert ctc_spans([], blank=0) == []


def test_a_transducer_advances_by_its_durations() -> None:
    assert transducer_spans([9, 7, 8, 9, 7], [0, 0, 3, 2, 4], frozenset({9})) == [
        Span(7, 0, 1),
        Span(8, 0, 3),
        Span(7, 5, 9),
    ]


WHISPER = frozenset({"en", "de", "zh", "jw", "no", "he", "tl"})


@pytest.mark.parametrize(
    ("language", "known", "detects", "code"),
    [
        ("en-US", WHISPER, True, "en"),
        ("DE_at", WHISPER, True, "de"),
        ("yue", WHISPER, True, "zh"),
        ("yue-HK", WHISPER | {"yue"}, True, "yue"),
        ("jv", WHISPER, True, "jw"),
        ("jw", WHISPER, True, "jw"),
        ("nb-NO", WHISPER, True, "no"),
        ("iw", WHISPER, True, "he"),
        ("fil", WHISPER, True, "tl"),
        ("auto", WHISPER, True, ""),
        ("", WHISPER, True, ""),
        ("und", frozenset({"en"}), False, "en"),
        ("auto", frozenset(), False, ""),
        ("sw", frozenset(), False, "sw"),
    ],
)
def test_a_language_is_mapped_to_the_code_of_the_model(
    language: str, known: frozenset[str], detects: bool, code: str
) -> None:
    assert model_language(language, known, detects=detects) == code


@pytest.mark.parametrize(
    ("language", "detects", "says"),
    [
        ("tlh", True, r"does not know the language 'tlh'; it knows 7 \(de, en, he, jw, no, tl, zh\)$"),
        ("auto", False, "cannot detect the language"),
    ],
)
def test_an_unknown_language_is_named(language: str, detects: bool, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        model_language(language, WHISPER, detects=detects)
