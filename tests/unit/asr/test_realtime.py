"""A model that hears as it is spoken to: whatever comes in which pieces, it writes what it writes when it hears all at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from services.asr.engines import realtime
from services.asr.engines.clips import BYTES_PER_S
from services.asr.engines.families import load_model
from services.asr.engines.realtime import RealtimeUtterance, trusted
from services.asr.engines.transformers import TransformersRecognizer
from services.asr.engines.voxtral_realtime import Realtime
from shared.engines.devices import open_device
from shared.engines.registry import EngineLost, UnknownEngine
from shared.settings import Settings
from tests.support import random_models
from tests.support.sounds import CHUNK_BYTES, clip, feed, hum, noise, voice

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.voxtral_realtime(tmp_path_factory.mktemp("voxtral_realtime"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recognizer(folder: Path) -> AsyncIterator[TransformersRecognizer]:
    recognizer = TransformersRecognizer(Settings(asr_model=str(folder), device="cpu", model_slots=4))
    await recognizer.load()
    yield recognizer
    await recognizer.close()


@pytest.fixture
def model(recognizer: TransformersRecognizer) -> Realtime:
    assert isinstance(recognizer._model, Realtime)
    return recognizer._model


async def begin(recognizer: TransformersRecognizer) -> RealtimeUtterance:
    utterance = await recognizer.open("en")
    assert isinstance(utterance, RealtimeUtterance)
    return utterance


async def understand(recognizer: TransformersRecognizer, pcm: bytes, chunk: int = CHUNK_BYTES) -> str:
    utterance = await begin(recognizer)
    try:
        for at in range(0, len(pcm), chunk):
            await utterance.accept(pcm[at : at + chunk])
        return (await utterance.finish()).text
    finally:
        utterance.close()


def offline(model: Realtime, pcm: bytes) -> str:
    """What the library makes of it at once, up to where a stream knows that all is written."""
    import torch

    audio = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)
    tokens = -(-len(audio) // model.samples)
    padded = np.zeros((model.left + tokens + model.right) * model.samples, np.float32)
    padded[model.left * model.samples :][: len(audio)] = audio
    made = model._processor.feature_extractor(padded, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        row = model._model.generate(
            input_ids=torch.tensor([model.prefix]),
            input_features=made.input_features,
            num_delay_tokens=model.delay,
            max_length=model.left + tokens + model.right,
            do_sample=False,
        )
    written = row[0, len(model.prefix) :].tolist()
    heard = model.left + tokens + model.delay + 1 - len(model.prefix) + 1
    quiet = [end for end in range(heard, len(written)) if written[end - realtime.PAUSE : end] == [model.pad] * 2]
    return trusted(model.decode(written[: min(quiet, default=len(written))]).strip(), len(audio) / 16_000)


async def settled(utterance: RealtimeUtterance) -> None:
    """All that can be written by now is."""
    while utterance._asked is not None:
        await utterance._step()


@pytest.mark.parametrize("chunk_ms", [10, 80, 370, 5_000])
@pytest.mark.parametrize("seconds", [2.0, 3.21, 12.0])
async def test_it_writes_what_it_writes_when_it_hears_all_at_once(
    recognizer: TransformersRecognizer, model: Realtime, seconds: float, chunk_ms: int
) -> None:
    pcm = voice(seconds, 3)
    expected = await asyncio.to_thread(offline, model, pcm)
    assert expected
    assert await understand(recognizer, pcm, chunk_ms * BYTES_PER_S // 1000) == expected


async def test_people_at_once_do_not_mix(recognizer: TransformersRecognizer, model: Realtime) -> None:
    spoken = [voice(seconds, seed) for seed, seconds in enumerate((2.5, 4.0, 2.0, 3.3, 3.7, 6.0))]
    expected = [await asyncio.to_thread(offline, model, pcm) for pcm in spoken]
    assert len(set(expected)) == len(spoken)
    # There are more of them than rows: two wait, and take rows that others have written in.
    assert await asyncio.gather(*(understand(recognizer, pcm) for pcm in spoken)) == expected


async def test_words_come_while_the_person_speaks(recognizer: TransformersRecognizer) -> None:
    pcm, utterance, partials = voice(10, 2), await begin(recognizer), list[str]()
    for at in range(0, len(pcm), CHUNK_BYTES):
        await utterance.accept(pcm[at : at + CHUNK_BYTES])
        await settled(utterance)
        partial = await utterance.accept(b"")
        partials += [partial] if partial else []
    assert len(partials) > 5
    assert all(after.startswith(before) for before, after in pairwise(partials))
    assert (await utterance.finish()).text.startswith(partials[-1])
    utterance.close()


async def test_it_goes_on_after_a_pause_as_if_there_had_been_none(
    recognizer: TransformersRecognizer, model: Realtime
) -> None:
    pcm, utterance = voice(9, 6), await begin(recognizer)
    for begun, end in ((0, 2.0), (2.0, 2.05), (2.05, 6.5), (6.5, 9)):
        await feed(utterance, pcm[round(begun * 16_000) * 2 : round(end * 16_000) * 2])
        expected = await asyncio.to_thread(offline, model, pcm[: round(end * 16_000) * 2])
        first = await utterance.finish()
        assert first.text == expected
        assert first.language == "en"
        assert await utterance.finish() is first
    utterance.close()


async def test_a_transcript_that_nobody_waits_for_any_more_is_taken_back(
    recognizer: TransformersRecognizer, model: Realtime
) -> None:
    pcm, utterance = voice(5, 7), await begin(recognizer)
    half = len(pcm) // 4 * 2
    await feed(utterance, pcm[:half])
    for pause_s in (0, 0.005, 0.02):
        finishing = asyncio.ensure_future(utterance.finish())
        await asyncio.sleep(pause_s)
        finishing.cancel()
        await asyncio.gather(finishing, return_exceptions=True)
    await feed(utterance, pcm[half:])
    assert (await utterance.finish()).text == await asyncio.to_thread(offline, model, pcm)
    utterance.close()


async def test_one_that_is_closed_in_the_middle_leaves_its_row_to_the_next(
    recognizer: TransformersRecognizer, model: Realtime
) -> None:
    pcm = voice(2, 8)
    expected = await asyncio.to_thread(offline, model, pcm)
    for _ in range(6):
        utterance = await begin(recognizer)
        await utterance.accept(voice(20, 9))
        utterance.close()
    assert await understand(recognizer, pcm) == expected


async def test_nobody_said_nothing(recognizer: TransformersRecognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(recognizer._streams._batcher, "submit", asked.append)  # type: ignore[union-attr]
    for pcm in (b"", bytes(3 * BYTES_PER_S), noise(3), hum(3)):
        assert await understand(recognizer, pcm) == ""
    assert not asked


async def test_only_the_end_of_the_silence_before_a_voice_is_heard(
    recognizer: TransformersRecognizer, model: Realtime
) -> None:
    kept, pcm, utterance = round(realtime.LEAD_S * BYTES_PER_S), voice(4, 3), await begin(recognizer)
    await feed(utterance, bytes(2 * kept))
    assert len(utterance._pcm) == kept
    await utterance.accept(pcm)
    expected = await asyncio.to_thread(offline, model, bytes(kept) + pcm)
    assert expected
    assert (await utterance.finish()).text == expected
    utterance.close()


async def test_a_long_turn_takes_no_more_than_what_is_remembered(
    recognizer: TransformersRecognizer, model: Realtime
) -> None:
    pcm, utterance = voice(60, 11), await begin(recognizer)
    expected = await asyncio.to_thread(offline, model, pcm)
    for at in range(0, len(pcm), CHUNK_BYTES):
        await utterance.accept(pcm[at : at + CHUNK_BYTES])
        assert utterance._behind <= realtime.BEHIND_S
    await settled(utterance)
    assert len(utterance._pcm) < 3 * BYTES_PER_S
    assert (await utterance.finish()).text == expected
    utterance.close()
    assert model._memory._room[1] == model._model.config.text_config.sliding_window + model.right + 1
    assert model._ears._room[1] == 4 * len(model.prefix)  # more than its window: all of the first call is kept


async def test_the_event_loop_runs_while_it_hears(recognizer: TransformersRecognizer) -> None:
    turns, hearing = 0, asyncio.ensure_future(understand(recognizer, voice(10)))
    while not hearing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10


async def test_an_end_before_the_audio_has_ended_is_nothing_said(
    recognizer: TransformersRecognizer, model: Realtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = voice(6, 3)
    words = (await understand(recognizer, pcm)).split()
    vocabulary = range(model._model.config.text_config.vocab_size)
    end = next(token for token in vocabulary if model.decode([token]).strip() == words[0])
    monkeypatch.setattr(model, "_ends", frozenset({end}))
    others = (await understand(recognizer, pcm)).split()
    assert words[0] not in others
    assert len(others) > len(words) // 3


class Failing:
    """In place of the model: fails from the second step on."""

    def __init__(self, model: Realtime, error: BaseException) -> None:
        self._model, self._error, self._steps = model, error, 0

    def __call__(self, steps: Sequence[Any]) -> list[int]:
        self._steps += 1
        if self._steps > 2:
            raise self._error
        return type(self._model).advance(self._model, steps)


@pytest.mark.parametrize(
    ("error", "kind"), [(RuntimeError("CUDA error: device-side assert"), EngineLost), (ValueError("odd"), ValueError)]
)
async def test_a_device_that_fails_is_named(
    recognizer: TransformersRecognizer, model: Realtime, error: Exception, kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(recognizer._streams._batcher, "_answer", Failing(model, error))  # type: ignore[union-attr]
    utterance = await begin(recognizer)
    await utterance.accept(voice(2))
    with pytest.raises(kind):
        await utterance.finish()
    with pytest.raises(kind):
        await utterance.accept(b"")
    utterance.close()


async def test_one_that_does_not_answer_is_lost(
    recognizer: TransformersRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    monkeypatch.setattr(realtime, "PATIENCE_S", 0.01)
    monkeypatch.setattr(recognizer._streams._batcher, "submit", lambda _: Future())  # type: ignore[union-attr]
    utterance = await begin(recognizer)
    await utterance.accept(voice(2))
    with pytest.raises(EngineLost, match="not answered"):
        await utterance.finish()
    utterance.close()


async def test_closing_ends_what_is_still_heard(folder: Path) -> None:
    recognizer = TransformersRecognizer(Settings(asr_model=str(folder), device="cpu"))
    await recognizer.load()
    utterance = await begin(recognizer)
    await utterance.accept(voice(20))
    finishing = asyncio.ensure_future(utterance.finish())
    await asyncio.sleep(0)
    await recognizer.close()
    with pytest.raises(EngineLost, match="closed"):
        await finishing
    utterance.close()


async def test_a_tokenizer_that_does_not_stream_is_named(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "processor_config.json"
    assert '"global_log_mel_max": 1.5' in file.read_text()
    file.write_text(file.read_text().replace('"global_log_mel_max": 1.5', '"global_log_mel_max": null'))
    settings = Settings(device="cpu")
    with pytest.raises(UnknownEngine, match="streaming"):
        load_model(tmp_path, open_device(settings), settings)


@pytest.mark.parametrize("changed", [{"dtype": "bfloat16"}, {"dtype": "float16"}, {"quantize": "int8"}])
async def test_it_hears_with_fewer_bits(folder: Path, changed: dict[str, str]) -> None:
    settings = Settings(asr_model=str(folder), device="cpu").model_copy(update=changed)
    recognizer = TransformersRecognizer(settings)
    await recognizer.load()
    try:
        assert await understand(recognizer, voice(4, 3))
    finally:
        await recognizer.close()


async def test_at_once_too_it_hears_one_as_it_hears_several(model: Realtime) -> None:
    clips = [clip(2, 1), clip(3, 2)]
    assert model.transcribe(clips) == [model.transcribe([one])[0] for one in clips]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No, no, no, no. Not this one.", "No, no, no, no. Not this one."),
        ("Thank you. Thank you, thank you, thank you! Thank", "Thank you."),
        ("a b c d e f g h i j k l m n o p q r s t u v w x y z", ""),
        ("", ""),
    ],
)
async def test_what_is_made_up_is_not_said(text: str, said: str) -> None:
    assert trusted(text, 2.0) == said
