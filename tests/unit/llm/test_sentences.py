"""Cutting a reply into sentences while it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.sentences import LONGEST, SentenceCutter


def cut(deltas: list[str], language: str = "en") -> list[str]:
    cutter = SentenceCutter(language)
    found = [sentence for delta in deltas for sentence in cutter.feed(delta)]
    return found + cutter.finish()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("Dr. Smith paid $3.50 at example.com. Good!", ["Dr. Smith paid $3.50 at example.com.", "Good!"]),
        ("no full stop", ["no full stop"]),
        ("", []),
        ("   ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert cut([text]) == sentences
    assert cut(list(text)) == sentences


def test_a_sentence_is_given_as_soon_as_the_next_one_begins() -> None:
    cutter = SentenceCutter("en")
    assert cutter.feed("Hello there.") == []
    assert cutter.feed(" How") == ["Hello there."]


def test_nobody_waits_for_the_end_of_a_list() -> None:
    cutter = SentenceCutter("en")
    found = cutter.feed("word " * 200)
    assert len(found) == 2
    assert all(len(sentence) <= LONGEST for sentence in found)


@given(deltas=st.lists(st.text(alphabet="ab .?!\n1", max_size=12), max_size=40))
def test_nothing_that_is_said_is_lost(deltas: list[str]) -> None:
    said = "".join(cut(deltas))
    assert "".join(said.split()) == "".join("".join(deltas).split())
