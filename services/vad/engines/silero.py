"""Silero VAD, version 6: a small recurrent network that onnxruntime runs for all sessions of a worker in one call.

The model is `silero-vad` of the catalogue. Shapes as in the wrapper of its authors, at 16 kHz: input [sessions, 64 samples of context
+ 512 new ones], state [2, sessions, 128].
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.vad.engine import WINDOW_BYTES
from shared.distribution import not_installed
from shared.engines.models import find_model
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

MODEL = "silero-vad"
BLOCK, CONTEXT, STATE = 512, 64, 128
"""Samples in a block of the model, samples of context before it, width of the recurrent state."""

Floats = npt.NDArray[np.float32]


class SileroState:
    """What the detector remembers of one session. Windows have 320 samples and blocks 512: the remainder is kept."""

    __slots__ = ("context", "latest", "recurrent", "rest")

    def __init__(self) -> None:
        self.recurrent: Floats = np.zeros((2, STATE), np.float32)
        self.context: Floats = np.zeros(CONTEXT, np.float32)
        self.rest: Floats = np.zeros(0, np.float32)
        self.latest = 0.0
        """Probability of the latest block. A window gets the probability of the last block that was complete when the
        window ended: that block is 32 ms long and ended up to 28 ms earlier."""


class SileroDetector:
    """See `engine.SpeechDetector`."""

    blocking = True

    def __init__(self, settings: Settings) -> None:
        self._models_dir = settings.models_dir
        self._session: Any = None
        self._rate = np.array(RATE_HZ, np.int64)

    async def load(self) -> None:
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UnknownEngine(not_installed("The silero engine", "light", error.name)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = find_model(MODEL, models_dir=self._models_dir) / "silero_vad.onnx"
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.judge([(self.open(), bytes(2 * WINDOW_BYTES))])

    def open(self) -> SileroState:
        return SileroState()

    def judge(self, batch: Sequence[tuple[SileroState, bytes]]) -> list[list[float]]:
        chunks = [np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768 for _, pcm in batch]
        pending = [np.concatenate([state.rest, chunk]) for (state, _), chunk in zip(batch, chunks, strict=True)]
        found: list[list[float]] = [[] for _ in batch]
        for step in range(max((len(samples) // BLOCK for samples in pending), default=0)):
            due = [index for index, samples in enumerate(pending) if len(samples) >= (step + 1) * BLOCK]
            blocks = np.stack([pending[index][step * BLOCK : (step + 1) * BLOCK] for index in due])
            for index, probability in zip(due, self._run([batch[index][0] for index in due], blocks), strict=True):
                found[index].append(float(probability))
        answers = []
        for (state, pcm), samples, blocks_found in zip(batch, pending, found, strict=True):
            left = len(state.rest)
            known = [state.latest, *blocks_found]
            ends = range(left + WINDOW_BYTES // 2, left + len(pcm) // 2 + 1, WINDOW_BYTES // 2)
            answers.append([known[end // BLOCK] for end in ends])
            state.latest = known[-1]
            state.rest = samples[len(blocks_found) * BLOCK :]
        return answers

    def _run(self, states: Sequence[SileroState], blocks: Floats) -> Floats:
        """Return the probability of one block [sessions, 512] of each session."""
        inputs = np.concatenate([np.stack([state.context for state in states]), blocks], axis=1)
        recurrent = np.stack([state.recurrent for state in states], axis=1)
        probabilities, recurrent = self._session.run(None, {"input": inputs, "state": recurrent, "sr": self._rate})
        for index, state in enumerate(states):
            state.recurrent = recurrent[:, index]
            state.context = blocks[index, -CONTEXT:]
        answer: Floats = probabilities[:, 0]
        return answer

    async def close(self) -> None:
        pass
