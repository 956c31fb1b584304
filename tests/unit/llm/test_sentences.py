"""Splitting a streamed reply into sentences."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.llm.sentences import LONGEST, SentenceCutter


def cut(deltas: list[str], language: str = "en", first_words: int = 0) -> list[str]:
    cutter = SentenceCutter(language, first_words)
    found = [sentence for delta in deltas for sentence in cutter.feed(delta)]
    return found + cutter.finish()


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Hello there.", "How are you?"]),
        ("en", ["Dr. Smith paid $3.50 at example.com.", "Good!"]),
        ("en", ["He left at 5 p.m. on Monday, e.g. by train.", "She stayed."]),
        ("en", ["It costs 1,000.50 in v1.2.3 of 2024.", "Fine."]),
        ("en", ["See https://x.org/a.b?c=1 there.", "Long."]),
        ("en", ["“Really?” she asked.", "No."]),
        ("en", ["Wait... what?", "Yes!"]),
        ("en", ["J. R. R. Tolkien wrote it.", "He did."]),
        ("en", ["Write to me@x.org today.", "Thanks."]),
        ("en", ["1. Preheat the oven.", "2. Wait."]),
        ("de", ["Das kostet z. B. 3,5 Mio. Euro.", "Gut."]),
        ("hi", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("hi", ["डॉ. शर्मा आए हैं।", "फिर गए।"]),
        ("fr", ["Il a vu M. Dupont hier.", "Puis il est parti."]),
        ("de", ["Am 3. Oktober ist frei.", "Ja."]),
        ("en", ["**Bold.**", "Next one."]),
        ("en", ["Dr. Who is (really?) here.", "Good."]),
        ("ur", ["یہ ایک جملہ ہے۔", "کیا یہ ہے؟"]),
        ("ar", ["أنا بخير.", "كيف حالك؟"]),
        ("en", ["no full stop"]),
        ("en", []),
    ],
)  # fmt: skip
def test_sentences(language: str, sentences: list[str]) -> None:
    text = " ".join(sentences)
    assert cut([text], language) == sentences
    assert cut(list(text), language) == sentences


@pytest.mark.parametrize(
    ("language", "text", "count"),
    [
        ("zh", "你好。今天天气很好，我们去公园吧！你想去吗？", 3),
        ("ja", "今日はいい天気です。「そう。」散歩に行こう！", 3),
    ],
)
def test_scripts_without_spaces(language: str, text: str, count: int) -> None:
    pieces = cut(list(text), language)
    assert "".join(pieces) == text
    assert len(pieces) == count


def test_a_short_first_sentence_does_not_count_as_the_first_clause() -> None:
    pieces = cut(list("Sure! Let me think about that for you, if you like it. Good."), "en", 4)
    assert pieces == ["Sure!", "Let me think about that for you,", "if you like it.", "Good."]


def test_a_long_sentence_is_cut_at_a_comma() -> None:
    pieces = cut(["word " * 60 + "so, " + "word " * 60])
    assert pieces[0].endswith("so,")


def test_a_line_break_ends_a_sentence() -> None:
    assert cut(["- one\n- two\n\nThree\nfour"]) == ["- one", "- two", "Three", "four"]


def test_a_sentence_ends_with_the_first_letter_or_word_of_the_next() -> None:
    cutter = SentenceCutter("en")
    assert cutter.feed("Hello there.") == []
    assert cutter.feed(" ") == []
    assert cutter.feed("H") == ["Hello there."]
    cutter = SentenceCutter("en")
    assert cutter.feed("You said that to me. A") == []  # ME may abbreviate Maine
    assert cutter.feed("gain,") == []
    assert cutter.feed(" ") == ["You said that to me."]
    cutter = SentenceCutter("zh")
    assert cutter.feed("你好。") == []
    assert cutter.feed("今") == ["你好。"]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Well, that is a good question, I think. Yes.", "Well, that is a good question,"),
        ("I would say that, if you ask me, it is fine.", "I would say that,"),
        ("We went home and slept until noon.", "We went home"),
        ("Yes. It is.", "Yes."),
        ("On May 5, 2024 it began, and then it rained.", "On May 5, 2024 it began,"),
        ("It is 1,000 euros – no more.", "It is 1,000 euros –"),
        ("One two three four five six seven eight.", "One two three four five six seven eight."),
    ],
)
def test_the_first_piece_is_a_clause(text: str, first: str) -> None:
    pieces = cut(list(text), "en", 3)
    assert pieces[0] == first
    assert " ".join(pieces) == text


def test_later_pieces_are_sentences() -> None:
    assert cut(["I see, you know, it is so. And then, after that, we go."], "en", 2) == [
        "I see,",
        "you know, it is so.",
        "And then, after that, we go.",
    ]


def test_clauses_in_other_scripts() -> None:
    assert cut(["今天天气很好，我们去公园吧！"], "zh", 3) == ["今天天气很好，", "我们去公园吧！"]
    assert cut(["मैं घर गया और सो गया।"], "hi", 3)[0] == "मैं घर गया"


def test_a_long_list_is_cut() -> None:
    cutter = SentenceCutter("en")
    found = cutter.feed("word " * 200)
    assert len(found) == 2
    assert all(len(sentence) <= LONGEST for sentence in found)


pieces = st.sampled_from(
    [
        "a",
        "B",
        "Dr",
        "and",
        " ",
        " ",
        ". ",
        ".",
        "?!",
        "...",
        "\n",
        "1",
        ",",
        ", ",
        "“",
        ")",
        "。",
        "，",
        "あ",
        "中",
        "।",
        "—",
        "e.g.",
    ]
)


@settings(max_examples=300)
@given(
    text=st.one_of(st.lists(pieces, max_size=120).map("".join), st.text(max_size=80)),
    seed=st.integers(0, 100),
    first_words=st.integers(0, 4),
    language=st.sampled_from(["en", "de", "zh", "hi", "xx"]),
)
@example("word " * 200, 1, 3, "en")
def test_the_pieces_do_not_depend_on_the_deltas(text: str, seed: int, first_words: int, language: str) -> None:
    """A second attempt splits the whole text at once, and must find the pieces of the first. No text is lost."""
    chance, deltas, at = random.Random(seed), [], 0
    while at < len(text):
        size = chance.choice([1, 1, 2, 5, 20])
        deltas.append(text[at : at + size])
        at += size
    whole = cut([text], language, first_words)
    assert cut(deltas, language, first_words) == whole
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert all(piece == piece.strip() != "" for piece in whole)
