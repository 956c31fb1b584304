"""The recogniser of transformers with real architectures and random weights: from a folder to a transcript."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from services.asr.engines.model import BYTES_PER_S
from services.asr.engines.transformers import TransformersRecognizer
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import ModelMissing
from shared.settings import Settings
from tests.support import random_models
from tests.support.sounds import feed, hum, noise, voice

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.whisper(tmp_path_factory.mktemp("whisper"), tokens=6)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recognizer(folder: Path) -> AsyncIterator[TransformersRecognizer]:
    recognizer = TransformersRecognizer(Settings(asr_model=str(folder), device="cpu"))
    await recognizer.load()
    yield recognizer
    await recognizer.close()


async def transcribe(recognizer: TransformersRecognizer, pcm: bytes, language: str = "en", hints: str = "") -> str:
    utterance = await recognizer.open(language, hints)
    try:
        await feed(utterance, pcm)
        return (await utterance.finish()).text
    finally:
        utterance.close()


async def test_concurrent_utterances_do_not_mix(recognizer: TransformersRecognizer) -> None:
    spoken = [(voice(1 + seed % 3, seed), language) for seed, language in enumerate(("en", "de", "auto", "en"))]
    alone = [await transcribe(recognizer, *one) for one in spoken]
    assert all(alone)
    assert await asyncio.gather(*(transcribe(recognizer, *one) for one in spoken)) == alone


async def test_audio_without_a_voice_has_no_words(recognizer: TransformersRecognizer) -> None:
    for pcm in (b"", bytes(3 * BYTES_PER_S), noise(3), hum(3)):
        assert await transcribe(recognizer, pcm) == ""


async def test_a_language_is_detected_or_refused_by_name(recognizer: TransformersRecognizer) -> None:
    utterance = await recognizer.open("auto")
    await feed(utterance, voice(2, 3))
    assert (await utterance.finish()).language in recognizer._model.languages
    utterance.close()
    with pytest.raises(ValueError, match="does not know the language 'tlh'"):
        await recognizer.open("tlh")


async def test_the_event_loop_runs_during_transcription(recognizer: TransformersRecognizer) -> None:
    turns, transcribing = 0, asyncio.ensure_future(transcribe(recognizer, voice(20)))
    while not transcribing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10
    assert await transcribing


@pytest.mark.parametrize("build", [random_models.moonshine, lambda folder: random_models.parakeet(folder, tdt=True)])
async def test_other_architectures_work_alike(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    recognizer = TransformersRecognizer(Settings(asr_model=str(build(tmp_path)), device="cpu", language="de-AT"))
    await recognizer.load()
    try:
        utterance = await recognizer.open("de-AT", "hints that it ignores")
        await feed(utterance, voice(2))
        assert (await utterance.finish()).language == "de"
        utterance.close()
    finally:
        await recognizer.close()


async def test_a_model_that_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"config\.json"):
        await TransformersRecognizer(Settings(asr_model=str(tmp_path))).load()
    with pytest.raises(UnknownEngine, match=r"PARLEY_LANGUAGE.*'tlh'"):
        await TransformersRecognizer(Settings(asr_model=str(folder), device="cpu", language="tlh")).load()
