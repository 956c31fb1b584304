"""Silero's detector: a batch of sessions gives the same probabilities as each session alone."""

import asyncio
import random
import sys
import threading
import wave
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from services.vad.detector_batcher import DetectorBatcher, DetectorSession
from services.vad.engine import WINDOW_BYTES
from services.vad.engines import silero
from services.vad.engines.silero import MODEL, SileroDetector, SileroState
from services.vad.listener import Detection, Listener
from shared.engines.models import find_model
from shared.engines.registry import UnknownEngine
from shared.protocol.frames import AudioChunk, SpeechStarted
from shared.protocol.session import SessionSettings
from shared.settings import Settings
from tests.support.light_models import light_model
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.models


@pytest.fixture
def settings() -> Settings:
    return Settings(models_dir=light_model(MODEL).parent)


@pytest.fixture
async def detector(settings: Settings) -> AsyncIterator[SileroDetector]:
    found = SileroDetector(settings)
    await found.load()
    yield found
    await found.close()


def whole(pcm: bytes) -> bytes:
    return pcm[: len(pcm) // WINDOW_BYTES * WINDOW_BYTES]


async def test_it_tells_speech_from_silence_and_noise(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    speech = whole(speech_pcm("The quick brown fox jumps over the lazy dog, and goes home.", 16_000))
    noise = np.random.default_rng(1).normal(0, 300, 32_000).astype("<i2").tobytes()
    spoken, silent, noisy = detector.judge([(detector.open(), pcm) for pcm in (speech, bytes(64_000), whole(noise))])
    assert np.mean(np.array(spoken) > 0.5) > 0.8
    assert max(silent) < 0.3
    assert np.mean(np.array(noisy) > 0.5) < 0.1


async def test_it_detects_human_speech(detector: SileroDetector, clips: Path) -> None:
    for path in sorted(clips.glob("*.wav")):
        with wave.open(str(path)) as clip:
            speech = whole(clip.readframes(clip.getnframes()))
        (before, spoken, after) = (10, len(speech) // WINDOW_BYTES, 25)
        pcm = bytes(before * WINDOW_BYTES) + speech + bytes(after * WINDOW_BYTES)
        (found,) = detector.judge([(detector.open(), pcm)])
        assert max(found[:before]) < 0.5
        assert np.mean(np.array(found[before : before + spoken]) >= 0.5) > 0.4, path  # some clips contain pauses
        assert max(found[-5:]) < 0.5


async def test_a_window_gets_the_probability_of_the_latest_complete_block(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    """The expected values come from the model itself, block by block."""
    pcm = whole(bytes(7 * WINDOW_BYTES) + speech_pcm("Hello there.", 16_000))
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
    file = light_model(MODEL) / "silero_vad.onnx"
    model = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    padded, state = np.concatenate([np.zeros(64, np.float32), samples]), np.zeros((2, 1, 128), np.float32)
    blocks = [0.0]
    for at in range(0, len(samples) - 511, 512):
        inputs = {"input": padded[None, at : at + 576], "state": state, "sr": np.array(16_000, np.int64)}
        answer, state = model.run(None, inputs)
        blocks.append(float(answer[0, 0]))
    due = [blocks[end // 512] for end in range(320, len(samples) + 1, 320)]
    assert max(due) > 0.9
    assert detector.judge([(detector.open(), pcm)])[0] == pytest.approx(due, abs=1e-4)


async def test_a_batch_gives_the_same_as_each_session_alone(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    """With none, one or many windows of a session in a call."""
    chance = random.Random(1)
    sounds = [whole(speech_pcm(text, 16_000)) for text in ("Hello there.", "And how are you today?", "No.")]
    alone = [detector.judge([(detector.open(), pcm)])[0] for pcm in sounds]
    states, at = [detector.open() for _ in sounds], [0] * len(sounds)
    found: list[list[float]] = [[] for _ in sounds]
    while any(begin < len(pcm) for begin, pcm in zip(at, sounds, strict=True)):
        batch, who = [], []
        for index, pcm in enumerate(sounds):
            end = min(len(pcm), at[index] + WINDOW_BYTES * chance.choice([0, 1, 2, 7]))
            if end > at[index]:
                batch.append((states[index], pcm[at[index] : end]))
                who.append(index)
            at[index] = end
        for index, probabilities in zip(who, detector.judge(batch), strict=True):
            found[index] += probabilities
    assert [len(one) for one in found] == [len(pcm) // WINDOW_BYTES for pcm in sounds]
    for mine, expected in zip(found, alone, strict=True):
        assert mine == pytest.approx(expected, abs=1e-4)


async def test_a_probability_does_not_depend_on_later_audio(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    speech = bytes(20 * WINDOW_BYTES) + whole(speech_pcm("Hello there.", 16_000))
    (early,) = detector.judge([(detector.open(), speech[: 30 * WINDOW_BYTES])])
    (late,) = detector.judge([(detector.open(), speech)])
    assert late[:30] == pytest.approx(early, abs=1e-4)


async def test_an_empty_batch_is_allowed(detector: SileroDetector) -> None:
    assert detector.judge([]) == []


async def test_it_runs_off_the_event_loop(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    model = detector.judge

    def judge(batch: Sequence[tuple[SileroState, bytes]]) -> list[list[float]]:
        threads.add(threading.current_thread())
        return model(batch)

    monkeypatch.setattr(detector, "judge", judge)
    speech, begun = whole(speech_pcm("Hello there.", 16_000)), asyncio.Event()

    def on_detection(found: Detection) -> None:
        if any(type(fact) is SpeechStarted for fact in found.facts):
            begun.set()

    shared = DetectorBatcher(detector)
    session = DetectorSession(
        shared, Listener("s", SessionSettings()), on_detection, lambda error: pytest.fail(str(error))
    )
    for number, at in enumerate(range(0, len(speech), WINDOW_BYTES)):
        session.add(f"{1000 + number}-0", [AudioChunk(at // 2, speech[at : at + WINDOW_BYTES])])
    async with asyncio.timeout(HANG_S):
        await begun.wait()
    session.close()
    shared.close()
    assert threads
    assert threading.main_thread() not in threads


async def test_it_loads_off_the_event_loop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def find(*names: str, **options: Path) -> Path:
        threads.append(threading.current_thread())
        return find_model(*names, **options)

    monkeypatch.setattr(silero, "find_model", find)
    await SileroDetector(settings).load()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_without_onnxruntime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnknownEngine, match=r"onnxruntime.* make install EXTRAS=light$"):
        await SileroDetector(Settings()).load()


async def test_it_needs_no_torch(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails
    await SileroDetector(settings).load()


async def test_without_the_model_it_says_how_to_download_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownEngine, match=r"silero-vad is not on this machine.*parley models pull silero-vad"):
        await SileroDetector(Settings(models_dir=tmp_path)).load()
