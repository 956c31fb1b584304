"""Whisper on CTranslate2 with a real model and human speech: right words, batches, hints, timestamps, damaged files."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.wer import read_clips, word_error_rate
from deploy.client.talk import read_speech
from services.asr.engines.ctranslate2_whisper import CTranslate2Whisper
from services.asr.engines.faster_whisper import FasterWhisperRecognizer
from services.asr.engines.model import BYTES_PER_S, Clip
from services.asr.engines.offline import OfflineUtterance
from shared.engines.models import ModelMissing
from shared.engines.registry import UnknownEngine, loaded
from shared.settings import Settings
from tests.support.light_models import light_model
from tests.support.sounds import feed, hum, noise, voice
from tests.support.waiting import until

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_network")]

ALLOWED_WER = 0.08
JFK, ILL_DISPOSED, CLUBS = "jfk.wav", "austen-0880.wav", "cards-001.wav"


def settings(folder: Path, **more: object) -> Settings:
    return Settings(**{"asr_model": str(folder), "device": "cpu", "dtype": "auto", "threads": 2, **more})


@pytest.fixture(scope="module")
def folder() -> Path:
    return light_model("whisper-tiny.en")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The model's folder, to be damaged."""
    return shutil.copytree(folder, tmp_path / "model")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recognizer(folder: Path) -> AsyncIterator[FasterWhisperRecognizer]:
    async with loaded(FasterWhisperRecognizer(settings(folder))) as recognizer:
        yield recognizer


async def load(folder: Path, **options: str) -> None:
    async with loaded(FasterWhisperRecognizer(settings(folder, **options))):
        pass


@pytest.fixture
def model(recognizer: FasterWhisperRecognizer) -> CTranslate2Whisper:
    assert isinstance(recognizer._model, CTranslate2Whisper)
    return recognizer._model


@pytest.fixture(scope="module")
def speech(clips: Path) -> dict[str, tuple[bytes, str]]:
    """Recordings of people (s16le, 16 kHz) and their words, by file name."""
    return {one.file.name: (read_speech(one.file), one.text) for one in read_clips(clips)}


Speech = dict[str, tuple[bytes, str]]


async def transcribe(recognizer: FasterWhisperRecognizer, pcm: bytes, hints: str = "") -> str:
    utterance = await recognizer.open("en", hints)
    try:
        await feed(utterance, pcm)
        return (await utterance.finish()).text
    finally:
        utterance.close()


async def test_people_are_understood(recognizer: FasterWhisperRecognizer, speech: Speech) -> None:
    texts = await asyncio.gather(*(transcribe(recognizer, pcm) for pcm, _ in speech.values()))
    assert word_error_rate([truth for _, truth in speech.values()], texts) <= ALLOWED_WER


async def test_a_pause_around_the_speech_changes_no_word(recognizer: FasterWhisperRecognizer, speech: Speech) -> None:
    # Greedy decoding in a window of 10 s repeats one of these clips without end.
    before, after = noise(0.3, 1e-4), noise(0.6, 1e-4)
    texts = [await transcribe(recognizer, before + pcm + after) for pcm, _ in speech.values()]
    assert word_error_rate([truth for _, truth in speech.values()], texts) <= ALLOWED_WER


async def test_a_batch_gives_the_same_as_each_clip_alone(model: CTranslate2Whisper, speech: Speech) -> None:
    clips = [Clip((pcm,), "en") for pcm, _ in speech.values()]
    clips += [Clip((speech[CLUBS][0],), "en", "playing cards"), Clip((2 * speech[JFK][0],), "en")]
    assert model.transcribe(clips) == [model.transcribe([one])[0] for one in clips]


async def test_partial_transcripts_grow(recognizer: FasterWhisperRecognizer, speech: Speech) -> None:
    pcm, truth = speech[JFK]
    assert recognizer._batcher is not None
    utterance = OfflineUtterance(recognizer._batcher, "en", "", clock=lambda: 0.0)  # no decoding is slow
    partials = []
    for at in range(0, len(pcm), BYTES_PER_S // 2):
        partials += await feed(utterance, pcm[at : at + BYTES_PER_S // 2])
        pending = utterance._decoding
        await until(lambda pending=pending: pending is None or pending.done())
    transcript = await utterance.finish()
    utterance.close()
    assert len(partials) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(partials))
    assert word_error_rate([truth], [transcript.text]) == 0
    assert transcript.language == "en"


async def test_hints_bring_out_a_rare_word(model: CTranslate2Whisper, speech: Speech) -> None:
    pcm = speech[ILL_DISPOSED][0]
    plain, hinted, control = (
        model.transcribe([Clip((pcm,), "en", hints)])[0].text
        for hints in ("", "disposed, ill-disposed", "<|endoftext|><|translate|>")
    )
    assert "ill-disposed" not in plain
    assert "ill-disposed" in hinted
    assert "young man" in control


async def test_the_longest_hints_fit(model: CTranslate2Whisper, speech: Speech) -> None:
    assert model.transcribe([Clip((speech[JFK][0],), "en", "Ada Lovelace " * 200)])[0].text
    tokens = model._hint_tokens("Ada Lovelace " * 200)
    assert len(tokens) == 224
    assert tokens[0] == model._token("startofprev")


@pytest.mark.parametrize("pcm", [b"", bytes(3 * BYTES_PER_S), noise(3, 0.01), noise(3), hum(3)])
async def test_audio_without_a_voice_has_no_words(recognizer: FasterWhisperRecognizer, pcm: bytes) -> None:
    assert await transcribe(recognizer, pcm) == ""


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.1])
async def test_a_very_short_clip_is_no_fault(model: CTranslate2Whisper, seconds: float) -> None:
    assert len(model.transcribe([Clip((voice(seconds),), "en")])) == 1


async def test_an_english_model_knows_no_other_language(recognizer: FasterWhisperRecognizer) -> None:
    with pytest.raises(ValueError, match=r"does not know the language 'de-AT'; it knows 1 \(en\)"):
        await recognizer.open("de-AT")
    (await recognizer.open("auto")).close()


async def test_the_event_loop_runs_during_transcription(recognizer: FasterWhisperRecognizer, speech: Speech) -> None:
    turns, transcribing = 0, asyncio.ensure_future(transcribe(recognizer, speech[JFK][0]))
    while not transcribing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10


async def test_a_discarded_utterance_leaves_nothing_behind(recognizer: FasterWhisperRecognizer, speech: Speech) -> None:
    utterance = await recognizer.open("en")
    await feed(utterance, speech[JFK][0])
    finishing = asyncio.ensure_future(utterance.finish())
    await asyncio.sleep(0)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    utterance.close()
    assert word_error_rate([speech[CLUBS][1]], [await transcribe(recognizer, speech[CLUBS][0])]) == 0


@pytest.mark.parametrize("file", ["config.json", "model.bin", "tokenizer.json"])
async def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(ModelMissing, match=file.replace(".", r"\.")):
        await load(copy)


@pytest.mark.parametrize("file", ["config.json", "model.bin", "tokenizer.json", "vocabulary.txt"])
@pytest.mark.parametrize("left", [0, 1000])
async def test_a_damaged_file_is_an_error_that_says_what_to_do(copy: Path, file: str, left: int) -> None:
    (copy / file).write_bytes((copy / file).read_bytes()[:left])
    with pytest.raises(UnknownEngine, match="download the model again"):
        await load(copy)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"language": "de"}, r"PARLEY_LANGUAGE: .*'de'"),
        ({"dtype": "float16"}, "float16"),
    ],
)
async def test_settings_that_do_not_fit_are_named(folder: Path, options: dict[str, str], says: str) -> None:
    with pytest.raises(UnknownEngine, match=says):
        await load(folder, **options)
