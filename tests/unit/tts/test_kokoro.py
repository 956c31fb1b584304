"""Kokoro's architecture with random weights: the speech is noise, but its slices, words and levels are real."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from services.tts.engine import Speech
from services.tts.engines.kokoro import KokoroSynthesizer, mix
from shared.audio.loudness import LEVEL_DBFS, level_dbfs
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import ModelMissing
from shared.settings import Settings
from tests.support import random_models
from tests.support.waiting import HANG_S

TEXT = "Hello there, my friend."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.kokoro(tmp_path_factory.mktemp("kokoro"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(folder: Path) -> AsyncIterator[KokoroSynthesizer]:
    engine = KokoroSynthesizer(Settings(tts_model=str(folder), device="cpu"))
    await engine.load()
    yield engine
    await engine.close()


async def speak(
    engine: KokoroSynthesizer, text: str, voice: str = "", speed: float = 1.0, language: str = "en"
) -> list[Speech]:
    return [piece async for piece in engine.speak(text, voice=voice, speed=speed, language=language)]


def samples(speech: list[Speech]) -> np.ndarray:
    return np.frombuffer(b"".join(piece.pcm for piece in speech), "<i2").astype(np.float32) / 32_768


pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def test_it_speaks_in_slices_with_its_words_at_its_level(engine: KokoroSynthesizer) -> None:
    speech = await speak(engine, TEXT)
    words = [word for piece in speech for word in piece.words]
    assert [word.text for word in words] == TEXT.split()
    assert all(0 <= word.start < word.end for word in words)
    assert all(before.end <= after.start for before, after in pairwise(words))
    assert all(0 < len(piece.pcm) <= 2 * engine.rate_hz // 5 for piece in speech)
    assert level_dbfs(samples(speech), engine.rate_hz) == pytest.approx(LEVEL_DBFS, abs=1.5)
    assert not np.isnan(samples(speech)).any()


async def test_voices_mix_and_speed_counts(engine: KokoroSynthesizer) -> None:
    assert engine.voices()[0] == "af_heart"
    plain, mixed = await speak(engine, TEXT), await speak(engine, TEXT, "af_heart:2+am_adam:1")
    assert len(samples(mixed)) != len(samples(plain)) or not np.array_equal(samples(mixed), samples(plain))
    fast = await speak(engine, TEXT, speed=1.8)
    assert len(samples(fast)) < 0.7 * len(samples(plain))


@pytest.mark.parametrize(
    ("voice", "language", "chosen"),
    [
        ("", "en", ("af_heart", "a")),
        ("", "en-GB", ("bf_emma", "b")),
        ("", "hi", ("hf_alpha", "h")),
        ("bf_emma", "en", ("bf_emma", "b")),
        ("af_heart", "hi", ("af_heart", "h")),
        ("af_heart", "de", ("af_heart", "a")),
        ("", "es", ("af_heart", "e")),
    ],
)
async def test_the_choice_of_voice_and_language(
    engine: KokoroSynthesizer, voice: str, language: str, chosen: tuple[str, str]
) -> None:
    assert engine._choose(voice, language) == chosen


async def test_hindi_is_spoken(engine: KokoroSynthesizer) -> None:
    speech = await speak(engine, "नमस्ते दुनिया।", language="hi")
    assert [word.text for piece in speech for word in piece.words] == ["नमस्ते", "दुनिया।"]


@pytest.mark.parametrize(
    ("voice", "language", "says"),
    [
        ("nobody", "en", "unknown voice 'nobody'"),
        ("", "de", "does not speak 'de'"),
        ("af_heart:x", "en", "is not a weight"),
    ],
)
async def test_unknown_voices_and_languages_are_errors(
    engine: KokoroSynthesizer, voice: str, language: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        await speak(engine, TEXT, voice, language=language)


@pytest.mark.parametrize("text", ["…", "🙂", " "])
async def test_a_text_without_phonemes_is_a_short_silence(engine: KokoroSynthesizer, text: str) -> None:
    assert len(samples(await speak(engine, text))) < 2 * engine.rate_hz


async def test_a_long_sentence_starts_early_and_can_be_closed(engine: KokoroSynthesizer) -> None:
    speech = engine.speak("Well, this is so, " + "and this goes on and on, " * 20, voice="", speed=1.0, language="en")
    first = await anext(speech)
    assert first.words[0].text == "Well,"
    asking = asyncio.ensure_future(speech.aclose())
    await asyncio.wait_for(asking, HANG_S)
    assert (await speak(engine, "Yes."))[0].pcm


async def test_concurrent_sentences_sound_as_they_do_alone(engine: KokoroSynthesizer) -> None:
    texts = ["One two three.", "This is another one, and longer."]
    alone = [await speak(engine, text) for text in texts]
    together = await asyncio.gather(*(speak(engine, text) for text in texts))
    for one, other in zip(alone, together, strict=True):
        assert len(samples(one)) == len(samples(other))


async def test_the_shares_of_a_mix_add_up_to_one() -> None:
    assert mix("a+b:3") == [("a", 0.25), ("b", 0.75)]
    assert mix("a,b") == [("a", 0.5), ("b", 0.5)]


async def test_other_models_are_rejected(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"config\.json"):
        await KokoroSynthesizer(Settings(tts_model=str(tmp_path))).load()
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UnknownEngine, match="not a Kokoro model"):
        await KokoroSynthesizer(Settings(tts_model=str(tmp_path))).load()
    (tmp_path / "kokoro.pth").symlink_to(folder / "kokoro-v1_0.pth")
    (tmp_path / "voices").symlink_to(folder / "voices")
    with pytest.raises(UnknownEngine, match="not a Kokoro model that can be loaded"):
        await KokoroSynthesizer(Settings(tts_model=str(tmp_path))).load()


async def test_a_missing_device_is_named(folder: Path) -> None:
    with pytest.raises(UnknownEngine, match=r"cuda:7.*0 CUDA devices"):
        await KokoroSynthesizer(Settings(tts_model=str(folder), device="cuda:7")).load()
