"""Smart Turn with a tiny model that takes a turn with a loud end for incomplete."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.vad.endpointing.engine import Pause
from services.vad.endpointing.smart_turn import SmartTurnDetector, model_file
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ, SessionSettings
from shared.settings import Settings

DEFAULTS = SessionSettings()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input_features` [batch, 80, 800] → sigmoid(-10 · mean of the last 50 frames), [batch, 1]."""
    path = tmp_path_factory.mktemp("smart-turn") / "tiny.onnx"
    whole = helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", 80, 800])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [1], [750]),
        helper.make_tensor("last", TensorProto.INT64, [1], [800]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [2]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("factor", TensorProto.FLOAT, [1], [-10.0]),
        helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1]),
    ]
    nodes = [
        helper.make_node("Slice", ["input_features", "first", "last", "axis"], ["end"]),
        helper.make_node("ReduceMean", ["end", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["column"]),
        helper.make_node("Sigmoid", ["column"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "tiny", [whole], [answer], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
async def detector(model: Path) -> AsyncIterator[SmartTurnDetector]:
    found = SmartTurnDetector(Settings(smart_turn_model=str(model)))
    await found.load()
    yield found
    await found.close()


def turn(*parts: tuple[float, float]) -> bytes:
    """Noise in parts of (seconds, loudness)."""
    chance = np.random.default_rng(1)
    pieces = [chance.normal(0, 1, int(RATE_HZ * seconds)) * loudness * 8000 for seconds, loudness in parts]
    return np.concatenate(pieces).clip(-32_768, 32_767).astype("<i2").tobytes()


async def test_the_audio_decides_the_wait(detector: SmartTurnDetector) -> None:
    async def waits_ms(pcm: bytes, settings: SessionSettings) -> int:
        return (await detector.open().decide(Pause(1, 0, pcm), settings)).wait_ms

    assert detector.audio_s == 8
    assert await waits_ms(turn((2, 1), (1, 0.001)), DEFAULTS) == DEFAULTS.complete_ms
    assert await waits_ms(turn((1, 0.001), (2, 1)), DEFAULTS) == DEFAULTS.incomplete_ms
    assert await waits_ms(turn((1, 0.001), (2, 1)), SessionSettings(incomplete_ms=4000)) == 4000


async def test_a_short_turn_is_padded_on_the_left_and_a_long_one_is_cut(detector: SmartTurnDetector) -> None:
    loud_end = turn((0.6, 1))
    assert detector.probability(loud_end) < 0.5
    assert detector.probability(turn((20, 0.001)) + loud_end) == pytest.approx(
        detector.probability(turn((7.4, 0.001)) + loud_end), abs=0.05
    )
    assert 0 <= detector.probability(b"") <= 1


async def test_the_model_runs_off_the_event_loop(detector: SmartTurnDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    probability = detector.probability

    def watched(pcm: bytes) -> float:
        threads.append(threading.current_thread().name)
        return probability(pcm)

    monkeypatch.setattr(detector, "probability", watched)
    await asyncio.gather(*(detector.open().decide(Pause(1, 0), DEFAULTS) for _ in range(3)))
    assert len(threads) == 3
    assert all(name.startswith("smart-turn") for name in threads)


@pytest.mark.parametrize("name", ["", "nowhere.onnx", "owner/repository", "hexgrad/Kokoro-82M"])
def test_an_invalid_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownEngine, match="PARLEY_SMART_TURN_MODEL"):
        model_file(name, tmp_path)


def test_a_missing_model_is_named_with_the_command_to_download_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownEngine, match=r"smart-turn-v3\.2 is not on this machine.*parley models pull"):
        model_file(Settings().smart_turn_model, tmp_path)


async def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(UnknownEngine, match=r"broken\.onnx cannot be loaded"):
        await SmartTurnDetector(Settings(smart_turn_model=str(broken))).load()
