"""Silero's detector, version 6: a small recurrent network, run by onnxruntime for all sessions of a worker in one call.

The model comes in the package `silero-vad`, and is used without it: the package would load torch. Shapes as in the package's
own wrapper: input [sessions, 64 samples of context + 512 new ones], state [2, sessions, 128], at 16 kHz.
"""

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.vad.engine import WINDOW_BYTES
from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

BLOCK, CONTEXT, STATE = 512, 64, 128
"""Samples that the model judges at once, samples before them that it sees again, width of its memory."""

Floats = npt.NDArray[np.float32]


class SileroEar:
    """One session. Windows of 320 samples are not blocks of 512: what is left over waits for the next window."""

    __slots__ = ("context", "latest", "rest", "state")

    def __init__(self) -> None:
        self.state: Floats = np.zeros((2, STATE), np.float32)
        self.context: Floats = np.zeros(CONTEXT, np.float32)
        self.rest: Floats = np.zeros(0, np.float32)
        self.latest = 0.0
        """Of the newest block. A window gets that of the last block that was complete when it ended: that block ended up to
        28 ms before, and is 32 ms long."""


class SileroDetector:
    """See `engine.SpeechDetector`."""

    blocking = True

    def __init__(self, settings: Settings) -> None:
        self._session: Any = None
        self._rate = np.array(RATE_HZ, np.int64)

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not installed."""
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UnknownEngine(not_installed("The silero engine", "neural", error.name)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(_model(), options, providers=["CPUExecutionProvider"])
        self.judge([(self.open(), bytes(2 * WINDOW_BYTES))])

    def open(self) -> SileroEar:
        return SileroEar()

    def judge(self, batch: Sequence[tuple[SileroEar, bytes]]) -> list[list[float]]:
        heard = [np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768 for _, pcm in batch]
        pending = [np.concatenate([ear.rest, samples]) for (ear, _), samples in zip(batch, heard, strict=True)]
        found: list[list[float]] = [[] for _ in batch]
        for step in range(max((len(samples) // BLOCK for samples in pending), default=0)):
            due = [index for index, samples in enumerate(pending) if len(samples) >= (step + 1) * BLOCK]
            blocks = np.stack([pending[index][step * BLOCK : (step + 1) * BLOCK] for index in due])
            for index, probability in zip(due, self._run([batch[index][0] for index in due], blocks), strict=True):
                found[index].append(float(probability))
        answers = []
        for (ear, pcm), samples, blocks_found in zip(batch, pending, found, strict=True):
            left = len(ear.rest)
            known = [ear.latest, *blocks_found]
            ends = range(left + WINDOW_BYTES // 2, left + len(pcm) // 2 + 1, WINDOW_BYTES // 2)
            answers.append([known[end // BLOCK] for end in ends])
            ear.latest = known[-1]
            ear.rest = samples[len(blocks_found) * BLOCK :]
        return answers

    def _run(self, ears: Sequence[SileroEar], blocks: Floats) -> Floats:
        inputs = np.concatenate([np.stack([ear.context for ear in ears]), blocks], axis=1)
        state = np.stack([ear.state for ear in ears], axis=1)
        probabilities, states = self._session.run(None, {"input": inputs, "state": state, "sr": self._rate})
        for index, ear in enumerate(ears):
            ear.state = states[:, index]
            ear.context = blocks[index, -CONTEXT:]
        answer: Floats = probabilities[:, 0]
        return answer

    async def close(self) -> None:
        pass


def _model() -> str:
    """Where the package has its model."""
    found = find_spec("silero_vad")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / "data" / "silero_vad.onnx"
        if path.is_file():
            return str(path)
    raise UnknownEngine(not_installed("The silero engine", "neural", "silero-vad"))
