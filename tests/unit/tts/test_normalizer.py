"""From written to spoken text: a table of pairs, and what holds for any text."""

import tomllib
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from services.tts.normalizer.normalize import LANGUAGES, normalize, spoken

PAIRS = tomllib.loads(Path(__file__).with_name("spoken_pairs.toml").read_text())
TEXTS = st.text(alphabet="0123456789 .,:/-–+$€₹%°#@&()'\"aAbmkKhxé5हिं½²→", max_size=40)


def test_the_table_has_all_languages() -> None:
    assert PAIRS.keys() >= LANGUAGES
    assert sum(map(len, PAIRS.values())) >= 300


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [(language, written, said) for language, pairs in PAIRS.items() for written, *said in pairs],
)
def test_written_text_is_said_as_a_person_says_it(language: str, written: str, said: list[str]) -> None:
    assert spoken(normalize(written, language)).lower() in [one.lower() for one in said]


@given(TEXTS, st.sampled_from(("en", "en-GB", "de", "es-MX", "fr", "hi")))
def test_every_text_is_said_without_digits_and_its_parts_are_as_written(text: str, language: str) -> None:
    spans = normalize(text, language)
    assert "".join(span.written for span in spans) == text
    assert not regex.search(r"[0-9$€₹%½²→]", spoken(spans))


@given(st.text(max_size=60), st.sampled_from(sorted(LANGUAGES)))
def test_any_text_keeps_its_parts(text: str, language: str) -> None:
    assert "".join(span.written for span in normalize(text, language)) == text


@given(st.text(alphabet=st.characters(categories=("Ll", "Zs"), max_codepoint=0x24F), max_size=60))
def test_words_stay_as_they_are(text: str) -> None:
    said = regex.sub(r"\s+", " ", spoken(normalize(text, "en")))
    assert said == regex.sub(r"\s+", " ", text)


@given(TEXTS, st.sampled_from(sorted(LANGUAGES)))
def test_what_is_in_words_is_not_changed_again(text: str, language: str) -> None:
    once = spoken(normalize(text, language))
    assert not regex.search(r"\d", spoken(normalize(once, language)))


@pytest.mark.parametrize(
    ("tag", "first"), [("en", "May"), ("en-US-nyc", "May"), ("en-gb-x-rp", "the"), ("en_IN", "the")]
)
def test_the_region_tells_whether_the_month_comes_first(tag: str, first: str) -> None:
    assert spoken(normalize("5/6/2026", tag)).startswith(first)


def test_a_language_without_rules_stays_as_it_is() -> None:
    assert spoken(normalize("5 €", "it")) == "5 €"
