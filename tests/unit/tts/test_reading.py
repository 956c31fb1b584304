"""Reading a sentence out: words for the engine, the times of the written words for the client, a voice for each script."""

from collections.abc import AsyncGenerator, Collection
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.edge.conversation.heard import SentenceSpan, heard_text
from services.tts.engine import Speech
from services.tts.engines.espeak import EspeakSynthesizer
from services.tts.normalizer.normalize import normalize, spoken
from services.tts.normalizer.scripts import runs
from services.tts.normalizer.timings import WrittenWords
from services.tts.reading import read_out
from shared.protocol.session import Word
from shared.settings import Settings

LENGTH = 100
"""Samples of a word."""


class Fake:
    """Speaks each word in `LENGTH` samples, and notes what it was given."""

    rate_hz, slots, in_order = 16_000, 1, True

    def __init__(self, languages: Collection[str], *, reads_written_text: bool = False) -> None:
        self._languages, self._reads_written_text = languages, reads_written_text
        self.said: list[tuple[str, str, str]] = []

    async def load(self) -> None: ...

    def voices(self) -> tuple[str, ...]:
        return ("anna",)

    def languages(self) -> Collection[str]:
        return self._languages

    def text_language(self, voice: str, language: str) -> str:
        return "" if self._reads_written_text else language

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        self.said.append((text.strip(), voice, language))
        for at, word in enumerate(text.split()):
            yield Speech(bytes(2 * LENGTH), (Word(word, at * LENGTH, (at + 1) * LENGTH),))

    async def close(self) -> None: ...


async def read(engine: Fake, text: str, language: str = "en") -> tuple[list[Word], int]:
    """The words of a sentence, and its length in samples."""
    pieces = [piece async for piece in read_out(engine, text, voice="anna", speed=1.0, language=language)]
    return [word for piece in pieces for word in piece.words], sum(len(piece.pcm) for piece in pieces) // 2


async def test_the_engine_gets_words_and_the_client_the_times_of_what_is_written() -> None:
    engine = Fake({"en"})
    words, samples = await read(engine, "It costs $2.50 (3-5 days).")
    assert engine.said == [("It costs two dollars and fifty cents (three to five days).", "anna", "en")]
    assert words == [
        Word("It", 0, 100),
        Word("costs", 100, 200),
        Word("$2.50", 200, 700),
        Word("(3-5", 700, 1000),
        Word("days).", 1000, 1100),
    ]
    assert samples == 1100


@pytest.mark.parametrize(
    ("heard", "text"),
    [(250, "It costs"), (460, "It costs $2.50"), (900, "It costs $2.50 (3-5"), (1100, "It costs $2.50 (3-5 days).")],
)
async def test_what_was_heard_of_a_sentence_is_what_is_written(heard: int, text: str) -> None:
    sentence = "It costs $2.50 (3-5 days)."
    words, samples = await read(Fake({"en"}), sentence)
    place = SentenceSpan(0, samples, tuple((word.text, word.start, word.end) for word in words))
    assert heard_text([sentence], [place], heard, samples) == text


async def test_an_engine_that_reads_written_text_gets_it() -> None:
    engine = Fake({"en"}, reads_written_text=True)
    words, _ = await read(engine, "That is $5, こんにちは.")
    assert engine.said == [("That is $5, こんにちは.", "anna", "en")]
    assert " ".join(word.text for word in words) == "That is $5, こんにちは."


@given(
    st.lists(
        st.sampled_from(
            ("$5", "a", "3-5", "He/she", "at 5:30 pm", "x→y", "(10%)", "me@x.org,", "\u201c1/2\u201d", "12K!")
        ),
        max_size=8,
    ),
    st.randoms(),
)
def test_each_written_word_appears_once_and_in_order(parts: list[str], random: "object") -> None:
    text = " ".join(parts)
    spans = normalize(text, "en")
    mapped = WrittenWords(spans)
    times = [Word(word, at * LENGTH, (at + 1) * LENGTH) for at, word in enumerate(spoken(spans).split())]
    found = [word for time in times for word in mapped.feed([time])] + list(mapped.finish())
    assert "".join(word.text for word in found).replace(" ", "") == text.replace(" ", "")
    assert all(first.end <= second.start for first, second in pairwise(found))


async def test_an_engine_that_lists_no_languages_reads_every_script_in_the_chosen_voice() -> None:
    engine = Fake(())
    await read(engine, "He said こんにちは for $5.")
    assert engine.said == [("He said こんにちは for five dollars.", "anna", "en")]


async def test_another_script_is_spoken_by_a_voice_of_its_own() -> None:
    engine = Fake({"en", "ja"})
    words, samples = await read(engine, "He said こんにちは to us for $5.")
    assert engine.said == [
        ("He said", "anna", "en"),
        ("こんにちは", "", "ja"),
        ("to us for five dollars.", "anna", "en"),
    ]
    assert words[2:4] == [Word("こんにちは", 200, 300), Word("to", 300, 400)]
    assert words[-1].text == "$5."
    assert samples == 800


async def test_a_script_without_a_voice_is_left_out_with_one_line_in_the_log() -> None:
    engine = Fake({"en"})
    with capture_logs() as logs:
        words, _ = await read(engine, "He said こんにちは and שלום to us.")
    assert [said for said, _, _ in engine.said] == ["He said", "and", "to us."]
    assert " ".join(word.text for word in words) == "He said and to us."
    assert [(line["event"], line["characters"]) for line in logs] == [("text left out: no voice for its script", 9)]


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("It is called שלום.", "en", [("It is called ", "en"), ("שלום.", "he")]),
        ("日本, Tokyo", "en", [("日本", "zh"), (", Tokyo", "en")]),
        ("“日本へ ようこそ!” ok", "en", [("“日本へ ようこそ", ""), ("!” ok", "en")]),
        ("ようこそ", "en", [("ようこそ", "ja-Hira")]),
        ("今日は5 km.", "ja", [("今日は5 km.", "ja")]),
        ("Area πr² and Ω.", "en", [("Area πr² and Ω.", "en")]),
        ("Привет, мир! Hello.", "en", [("Привет, мир", "ru"), ("! Hello.", "en")]),
        ("नमस्ते John, 5 बजे", "hi", [("नमस्ते John, 5 बजे", "hi")]),
        ("Ελλάδα", "de", [("Ελλάδα", "")]),
    ],
)
def test_runs_by_script(text: str, language: str, found: list[tuple[str, str]]) -> None:
    assert runs(text, language, {"en", "de", "he", "zh", "ja-Hira", "ru", "hi"}) == found


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "hi"])
async def test_espeak_reads_a_number_out_in_its_voice_and_no_letter_by_letter(language: str) -> None:
    engine = EspeakSynthesizer(Settings())
    await engine.load()

    async def length(text: str) -> int:
        pieces = [piece async for piece in read_out(engine, text, voice="", speed=1.0, language=language)]
        assert " ".join(word.text for piece in pieces for word in piece.words).replace(" ", "") == text.replace(" ", "")
        return sum(len(piece.pcm) for piece in pieces) // 2

    assert await length("50 km/h.") > engine.rate_hz  # four words or more; "slash" alone is shorter
    assert await length("こんにちは.") < 1.5 * engine.rate_hz  # "Japanese letter" five times takes four seconds
    await engine.close()
