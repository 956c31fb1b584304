"""Pairing words with phonemes, and cutting sentences into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.pronunciation import FIRST_LONGEST, LONGEST, Pronounced, aligned, matched, pieces


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


def test_words_are_found_in_the_phonemes_of_their_sentence() -> None:
    words = ["It", "costs", "$23.50", "because", "of", "the", "weather."]
    alone = ["ɪt", "kˈɔsts", "dˈɑːlɚ twˈɛnti θɹˈiː", "bɪkˈʌz", "ʌv", "ðə", "wˈɛðɚ"]
    assert matched(words, alone, "ɪt kˈɔsts dˈɑːlɚ twˈɛnti θɹˈiː bɪkˈʌz ʌvðə wˈɛðɚ.") == [
        Pronounced("It", "ɪt"),
        Pronounced("costs", "kˈɔsts"),
        Pronounced("$23.50", "dˈɑːlɚ twˈɛnti θɹˈiː"),
        Pronounced("because", "bɪkˈʌz"),
        Pronounced("of", "ʌv"),
        Pronounced("the", "ðə", joined=True),
        Pronounced("weather.", "wˈɛðɚ."),
    ]


@given(st.lists(st.text("əɪʌ ", min_size=1, max_size=5), min_size=1, max_size=8), st.text("əɪʌ ,", max_size=30))
def test_matching_loses_no_phoneme(alone: list[str], phonemes: str) -> None:
    found = matched(["word"] * len(alone), alone, phonemes)
    assert "".join(one.phonemes for one in found).replace(" ", "") == phonemes.replace(" ", "")
