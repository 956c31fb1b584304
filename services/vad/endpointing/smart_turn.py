"""Smart Turn v3 predicts from the audio whether a turn is complete. An ONNX model of 8 MB, from the catalogue or from a file.

Input and output as in the reference (github.com/pipecat-ai/smart-turn, `inference.py`, BSD-2-Clause). Input: the last
8 s at 16 kHz, left-padded with zeros, as Whisper's log-mel features [1, 80, 800], normalised to mean 0 and variance 1.
Output: the probability, after the sigmoid, that the turn is complete.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from services.vad.endpointing.engine import Decision, FixedSpeaker, Pause
from services.vad.endpointing.log_mel import log_mel
from shared.distribution import not_installed
from shared.engines.models import find_model, stored_model
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ, SessionSettings
from shared.settings import Settings

AUDIO_S = 8
COMPLETE = 0.5
"""Threshold of the reference implementation."""


class SmartTurnDetector:
    """See `endpointing.TurnDetector`. One thread runs the model for all sessions, one call at a time."""

    audio_s = float(AUDIO_S)
    uses_words = False

    def __init__(self, settings: Settings) -> None:
        self._model = settings.smart_turn_model
        self._models_dir = settings.models_dir
        self._thread = ThreadPoolExecutor(1, "smart-turn")
        self._session: Any = None

    async def load(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    def _load(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UnknownEngine(not_installed("The smart-turn engine", "light", error.name)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = model_file(self._model, self._models_dir)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UnknownEngine(f"smart-turn: the model {path} cannot be loaded: {error}") from error
        self.probability(b"")

    def probability(self, pcm: bytes) -> float:
        """Return the probability, 0..1, that this turn (s16le, 16 kHz, mono) is complete. Takes tens of ms."""
        samples = np.zeros(AUDIO_S * RATE_HZ, np.float32)
        turn = np.frombuffer(pcm, "<i2")[-len(samples) :].astype(np.float32) / 32_768
        samples[len(samples) - len(turn) :] = turn
        (answer, *_) = self._session.run(None, {"input_features": log_mel(samples)[None]})
        return float(np.asarray(answer).reshape(-1)[0])

    def open(self) -> "SmartTurnSpeaker":
        return SmartTurnSpeaker(self)

    async def predict(self, pcm: bytes) -> float:
        """Run `probability` off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.probability, pcm)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class SmartTurnSpeaker(FixedSpeaker):
    """Learns nothing: each pause is judged by the audio alone."""

    def __init__(self, detector: SmartTurnDetector) -> None:
        self._detector = detector

    async def decide(self, pause: Pause, settings: SessionSettings) -> Decision:
        probability = await self._detector.predict(pause.pcm)
        wait_ms = settings.complete_ms if probability >= COMPLETE else settings.incomplete_ms
        return Decision(wait_ms, (sounds_complete(probability),))


def sounds_complete(probability: float) -> str:
    """The probability as a reason."""
    return f"sounds complete: {probability:.0%}"


def model_file(name: str, models_dir: Path) -> Path:
    """Return the path of a model: `name` if that is a file, else the ONNX file of a model of the catalogue.

    Raises:
        UnknownEngine: there is no such file on this machine; the message says what to do.
    """
    if Path(name).is_file():
        return Path(name)
    if stored_model(name) is None:
        raise UnknownEngine(f"PARLEY_SMART_TURN_MODEL={name!r} is neither a file nor a model of the catalogue")
    return next(find_model(name, models_dir=models_dir).glob("*.onnx"))
