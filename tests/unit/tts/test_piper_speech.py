"""A real voice of Piper: its speech is transcribed back, and its word times are compared with the recogniser's."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import soxr

from benchmarks.wer import normalise, word_error_rate
from services.tts.engine import Speech
from services.tts.engines.piper import PiperSynthesizer
from shared.audio.loudness import LEVEL_DBFS, level_dbfs
from shared.engines.registry import loaded
from shared.protocol.session import RATE_HZ, Word
from shared.settings import Settings
from tests.support.light_models import light_model
from tests.support.waiting import HANG_S

SENTENCES = (
    "Yes, of course.",
    "Hello there, my friend, how are you today?",
    "Well, that is a good question, and I would say that it depends on the weather in the morning.",
    "The train to the city leaves from the second platform in ten minutes, because of the snow.",
    "Doctor Smith said that you should drink more water, sleep longer, and walk to the office.",
)

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[PiperSynthesizer]:
    folder = light_model("piper-en_US-joe-medium")
    async with loaded(PiperSynthesizer(Settings(tts_model=str(folder), threads=1))) as engine:
        yield engine


@pytest.fixture(scope="module")
def recognizer() -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(light_model("whisper-tiny.en")), device="cpu", compute_type="int8", cpu_threads=1)


async def speak(engine: PiperSynthesizer, text: str, speed: float = 1.0) -> list[Speech]:
    return [piece async for piece in engine.speak(text, voice="", speed=speed, language="en")]


def samples(speech: list[Speech]) -> np.ndarray:
    return np.frombuffer(b"".join(piece.pcm for piece in speech), "<i2").astype(np.float32) / 32_768


def words_of(speech: list[Speech]) -> list[Word]:
    return [word for piece in speech for word in piece.words]


def transcribe(recognizer: Any, speech: list[Speech], rate_hz: int) -> list[Any]:
    """Return the recogniser's words, with their times in seconds."""
    wave = soxr.resample(samples(speech), rate_hz, RATE_HZ)
    segments, _ = recognizer.transcribe(wave, language="en", word_timestamps=True, beam_size=5)
    return [word for segment in segments for word in segment.words]


async def test_the_speech_is_understood(engine: PiperSynthesizer, recognizer: Any) -> None:
    spoken = [await speak(engine, text) for text in SENTENCES]
    heard = ["".join(word.word for word in transcribe(recognizer, speech, engine.rate_hz)) for speech in spoken]
    assert word_error_rate(SENTENCES, heard) <= 0.15


async def test_the_speech_has_a_usual_pace_and_the_level_of_all_voices(engine: PiperSynthesizer) -> None:
    for text in SENTENCES[1:]:
        speech = await speak(engine, text)
        words_per_s = len(text.split()) * engine.rate_hz / len(samples(speech))
        assert 2 < words_per_s < 5
        assert level_dbfs(samples(speech), engine.rate_hz) == pytest.approx(
            LEVEL_DBFS, abs=3
        )  # some sentences are softer
    assert len(samples(await speak(engine, SENTENCES[2], 2.0))) < 0.7 * len(samples(await speak(engine, SENTENCES[2])))


async def test_word_times_are_those_of_the_recogniser(engine: PiperSynthesizer, recognizer: Any) -> None:
    apart = []
    for text in SENTENCES[1:]:
        speech = await speak(engine, text)
        words, heard = words_of(speech), transcribe(recognizer, speech, engine.rate_hz)
        assert " ".join(word.text for word in words) == text
        assert all(0 <= word.start < word.end for word in words)
        assert all(before.end <= after.start for before, after in pairwise(words))
        assert words[-1].end <= len(samples(speech))
        if [normalise(word.text) for word in words] == [normalise(word.word) for word in heard]:
            apart += [abs(word.end / engine.rate_hz - one.end) for word, one in zip(words, heard, strict=True)]
    assert len(apart) > 20
    assert np.median(apart) < 0.15


async def test_two_sessions_at_once_are_both_understood(engine: PiperSynthesizer, recognizer: Any) -> None:
    texts = SENTENCES[2:4]
    spoken = await asyncio.gather(*(speak(engine, text) for text in texts))
    heard = ["".join(word.word for word in transcribe(recognizer, speech, engine.rate_hz)) for speech in spoken]
    assert word_error_rate(texts, heard) <= 0.15


async def test_a_sentence_starts_before_it_is_synthesized_and_can_be_stopped(engine: PiperSynthesizer) -> None:
    calls: list[Any] = []
    assert engine._batcher is not None
    submit = engine._batcher.submit

    def counted(call: Any, *, urgent: bool = False) -> Any:
        calls.append(call)
        return submit(call, urgent=urgent)

    engine._batcher.submit = counted  # type: ignore[method-assign]
    try:
        speech = engine.speak(SENTENCES[2], voice="", speed=1.0, language="en")
        await anext(speech)
        assert len(calls) == 3  # phonemes, plan, first stretch
        async with asyncio.timeout(HANG_S):
            await speech.aclose()
        assert len(calls) == 3
    finally:
        del engine._batcher.submit  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("It costs 23 euros.", "twenty three"),
        ("Dr. Smith lives at No. 5.", "Dr. Smith"),
        ("It is true 🙂, is it not?", "true"),
    ],
)
async def test_odd_texts_are_understood(engine: PiperSynthesizer, recognizer: Any, text: str, says: str) -> None:
    speech = await speak(engine, text)
    assert " ".join(word.text for word in words_of(speech)) == text
    heard = "".join(word.word for word in transcribe(recognizer, speech, engine.rate_hz))
    assert says.lower() in heard.lower().replace("23", "twenty three").replace("doctor", "dr.")


async def test_a_very_long_text_is_spoken_in_parts(engine: PiperSynthesizer) -> None:
    text = "and then we go on, " * 60 + "and on " * 100
    words = words_of(await speak(engine, text, 2.0))
    assert " ".join(word.text for word in words) == " ".join(text.split())
    assert all(before.start <= after.start for before, after in pairwise(words))
