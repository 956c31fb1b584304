"""Utterances of a streaming model: the transcript is that of the whole audio at once, however the audio is cut."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from services.asr.engines import streaming
from services.asr.engines.guards import streamed_without_hallucinations
from services.asr.engines.loading import load_model
from services.asr.engines.model import BYTES_PER_S
from services.asr.engines.streaming import StreamingUtterance
from services.asr.engines.transformers import TransformersRecognizer
from services.asr.engines.voxtral_realtime import VoxtralRealtime
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
def model(recognizer: TransformersRecognizer) -> VoxtralRealtime:
    assert isinstance(recognizer._model, VoxtralRealtime)
    return recognizer._model


async def begin(recognizer: TransformersRecognizer) -> StreamingUtterance:
    utterance = await recognizer.open("en")
    assert isinstance(utterance, StreamingUtterance)
    return utterance


async def transcribe(recognizer: TransformersRecognizer, pcm: bytes, chunk: int = CHUNK_BYTES) -> str:
    utterance = await begin(recognizer)
    try:
        for at in range(0, len(pcm), chunk):
            await utterance.accept(pcm[at : at + chunk])
        return (await utterance.finish()).text
    finally:
        utterance.close()


def offline(model: VoxtralRealtime, pcm: bytes) -> str:
    """Return the library's transcript of the whole audio, cut where a stream would take it for complete."""
    import torch

    audio = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)
    tokens = -(-len(audio) // model.samples_per_token)
    padded = np.zeros((model.left_padding + tokens + model.right_padding) * model.samples_per_token, np.float32)
    padded[model.left_padding * model.samples_per_token :][: len(audio)] = audio
    made = model._processor.feature_extractor(padded, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        row = model._model.generate(
            input_ids=torch.tensor([model.prefix]),
            input_features=made.input_features,
            num_delay_tokens=model.delay,
            max_length=model.left_padding + tokens + model.right_padding,
            do_sample=False,
        )
    written = row[0, len(model.prefix) :].tolist()
    first = model.left_padding + tokens + model.delay + 1 - len(model.prefix) + 1
    quiet = [end for end in range(first, len(written)) if written[end - streaming.PAUSE : end] == [model.pad] * 2]
    return streamed_without_hallucinations(
        model.decode(written[: min(quiet, default=len(written))]).strip(), len(audio) / 16_000
    )


async def settled(utterance: StreamingUtterance) -> None:
    """Wait until all audio so far is processed."""
    while utterance._pending is not None:
        await utterance._wait_for_step()


@pytest.mark.parametrize("chunk_ms", [10, 80, 370, 5_000])
@pytest.mark.parametrize("seconds", [2.0, 3.21, 12.0])
async def test_the_transcript_is_that_of_the_whole_audio_at_once(
    recognizer: TransformersRecognizer, model: VoxtralRealtime, seconds: float, chunk_ms: int
) -> None:
    pcm = voice(seconds, 3)
    expected = await asyncio.to_thread(offline, model, pcm)
    assert expected
    assert await transcribe(recognizer, pcm, chunk_ms * BYTES_PER_S // 1000) == expected


async def test_concurrent_utterances_do_not_mix(recognizer: TransformersRecognizer, model: VoxtralRealtime) -> None:
    spoken = [voice(seconds, seed) for seed, seconds in enumerate((2.5, 4.0, 2.0, 3.3, 3.7, 6.0))]
    expected = [await asyncio.to_thread(offline, model, pcm) for pcm in spoken]
    assert len(set(expected)) == len(spoken)
    # There are more utterances than rows: two wait, and get rows that others have used.
    assert await asyncio.gather(*(transcribe(recognizer, pcm) for pcm in spoken)) == expected


async def test_partial_transcripts_come_while_the_person_speaks(recognizer: TransformersRecognizer) -> None:
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


async def test_a_transcript_at_a_pause_does_not_change_the_later_one(
    recognizer: TransformersRecognizer, model: VoxtralRealtime
) -> None:
    pcm, utterance = voice(9, 6), await begin(recognizer)
    for begin_s, end_s in ((0, 2.0), (2.0, 2.05), (2.05, 6.5), (6.5, 9)):
        await feed(utterance, pcm[round(begin_s * 16_000) * 2 : round(end_s * 16_000) * 2])
        expected = await asyncio.to_thread(offline, model, pcm[: round(end_s * 16_000) * 2])
        first = await utterance.finish()
        assert first.text == expected
        assert first.language == "en"
        assert await utterance.finish() is first
    utterance.close()


async def test_a_cancelled_finish_is_undone(recognizer: TransformersRecognizer, model: VoxtralRealtime) -> None:
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


async def test_a_closed_utterance_leaves_its_row_to_the_next(
    recognizer: TransformersRecognizer, model: VoxtralRealtime
) -> None:
    pcm = voice(2, 8)
    expected = await asyncio.to_thread(offline, model, pcm)
    for _ in range(6):
        utterance = await begin(recognizer)
        await utterance.accept(voice(20, 9))
        utterance.close()
    assert await transcribe(recognizer, pcm) == expected


async def test_audio_without_a_voice_is_not_decoded(
    recognizer: TransformersRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(recognizer._streams._batcher, "submit", asked.append)  # type: ignore[union-attr]
    for pcm in (b"", bytes(3 * BYTES_PER_S), noise(3), hum(3)):
        assert await transcribe(recognizer, pcm) == ""
    assert not asked


async def test_only_the_last_seconds_before_a_voice_are_kept(
    recognizer: TransformersRecognizer, model: VoxtralRealtime
) -> None:
    kept, pcm, utterance = round(streaming.LEAD_S * BYTES_PER_S), voice(4, 3), await begin(recognizer)
    await feed(utterance, bytes(2 * kept))
    assert len(utterance._pcm) == kept
    await utterance.accept(pcm)
    expected = await asyncio.to_thread(offline, model, bytes(kept) + pcm)
    assert expected
    assert (await utterance.finish()).text == expected
    utterance.close()


async def test_the_memory_of_a_long_turn_is_bounded(recognizer: TransformersRecognizer, model: VoxtralRealtime) -> None:
    pcm, utterance = voice(60, 11), await begin(recognizer)
    expected = await asyncio.to_thread(offline, model, pcm)
    for at in range(0, len(pcm), CHUNK_BYTES):
        await utterance.accept(pcm[at : at + CHUNK_BYTES])
        assert utterance._behind_s <= streaming.BEHIND_S
    await settled(utterance)
    assert len(utterance._pcm) < 3 * BYTES_PER_S
    assert (await utterance.finish()).text == expected
    utterance.close()
    assert model._decoder_cache._capacity[1] == model._model.config.text_config.sliding_window + model.right_padding + 1
    # The first call needs more positions than the window of the encoder.
    assert model._encoder_cache._capacity[1] == 4 * len(model.prefix)


async def test_the_event_loop_runs_during_transcription(recognizer: TransformersRecognizer) -> None:
    turns, transcribing = 0, asyncio.ensure_future(transcribe(recognizer, voice(10)))
    while not transcribing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10


async def test_an_end_token_within_the_audio_is_padding(
    recognizer: TransformersRecognizer, model: VoxtralRealtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = voice(6, 3)
    words = (await transcribe(recognizer, pcm)).split()
    vocabulary = range(model._model.config.text_config.vocab_size)
    end = next(token for token in vocabulary if model.decode([token]).strip() == words[0])
    monkeypatch.setattr(model, "_ends", frozenset({end}))
    others = (await transcribe(recognizer, pcm)).split()
    assert words[0] not in others
    assert len(others) > len(words) // 3


class Failing:
    """Replaces the model's `advance`: fails from the third step on."""

    def __init__(self, model: VoxtralRealtime, error: BaseException) -> None:
        self._model, self._error, self._steps = model, error, 0

    def __call__(self, steps: Sequence[Any]) -> list[int]:
        self._steps += 1
        if self._steps > 2:
            raise self._error
        return type(self._model).advance(self._model, steps)


@pytest.mark.parametrize(
    ("error", "kind"), [(RuntimeError("CUDA error: device-side assert"), EngineLost), (ValueError("odd"), ValueError)]
)
async def test_a_failing_step_fails_the_utterance(
    recognizer: TransformersRecognizer, model: VoxtralRealtime, error: Exception, kind: type[Exception],
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


async def test_a_step_without_an_answer_means_that_the_engine_is_lost(
    recognizer: TransformersRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    monkeypatch.setattr(streaming, "STEP_TIMEOUT_S", 0.01)
    monkeypatch.setattr(recognizer._streams._batcher, "submit", lambda _: Future())  # type: ignore[union-attr]
    utterance = await begin(recognizer)
    await utterance.accept(voice(2))
    with pytest.raises(EngineLost, match="not answered"):
        await utterance.finish()
    utterance.close()


async def test_closing_the_recogniser_ends_its_utterances(folder: Path) -> None:
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


async def test_a_processor_without_streaming_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "processor_config.json"
    assert '"global_log_mel_max": 1.5' in file.read_text()
    file.write_text(file.read_text().replace('"global_log_mel_max": 1.5', '"global_log_mel_max": null'))
    settings = Settings(device="cpu")
    with pytest.raises(UnknownEngine, match="streaming"):
        load_model(tmp_path, open_device(settings), settings)


@pytest.mark.parametrize("changed", [{"dtype": "bfloat16"}, {"dtype": "float16"}, {"quantize": "int8"}])
async def test_it_transcribes_with_fewer_bits(folder: Path, changed: dict[str, str]) -> None:
    settings = Settings(asr_model=str(folder), device="cpu").model_copy(update=changed)
    recognizer = TransformersRecognizer(settings)
    await recognizer.load()
    try:
        assert await transcribe(recognizer, voice(4, 3))
    finally:
        await recognizer.close()


async def test_offline_transcription_does_not_depend_on_the_batch(model: VoxtralRealtime) -> None:
    clips = [clip(2, 1), clip(3, 2)]
    assert model.transcribe(clips) == [model.transcribe([one])[0] for one in clips]
