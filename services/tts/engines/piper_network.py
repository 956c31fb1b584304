"""The network of a Piper voice, VITS, cut into three parts so that speech can be sent before all of it is synthesized.

1. durations: symbols to the number of frames of each symbol. A tenth of a second of speech has about nine frames.
2. latent: durations and noise to a latent vector for each frame.
3. decoder: latent vectors to samples. It takes about 70 % of the time, and can run for any stretch of frames.

The noise of both steps is drawn here, from a seed: a second attempt at a sentence yields the same samples. Pure but for
the library.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.tts.engines.onnx_graph import BadGraph, Graph
from services.tts.engines.waveform import Waveform

CONTEXT_FRAMES = 12
"""Frames before and after a stretch that its samples depend on: 8 in voices of medium quality, 10 in high quality."""

Scales = tuple[float, float, float]
"""Noise of the sound, length of the symbols, noise of their lengths."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech before its last step."""

    latent: NDArray[np.float32]
    """[1, channels, frames]; the samples themselves where the network cannot be cut."""
    ends: NDArray[np.float64]
    """Where each symbol ends, in frames."""
    frames: int


class Network(Protocol):
    """A loaded network. Blocking; used by one thread."""

    samples_per_frame: int

    def prepare(self, symbols: list[int], speaker: int, scales: Scales, seed: int) -> Utterance: ...

    def decode(self, utterance: Utterance, start: int, end: int) -> Waveform:
        """Return the samples of the frames from `start` to `end`."""
        ...


def load_network(path: Path, threads: int, samples_per_frame: int) -> Network:
    """Load an ONNX file. `samples_per_frame` is only used where the network cannot be cut.

    Raises:
        BadGraph: the file is not an ONNX model.
    """
    model = path.read_bytes()
    graph = Graph(model)
    noises = [node for node in graph.nodes if node.op == "RandomNormalLike"]
    ceils = [node for node in graph.nodes if node.op == "Ceil"]
    upsamplings = [node for node in graph.nodes if node.op == "ConvTranspose"]
    if len(noises) == 2 and len(ceils) == 1 and upsamplings:
        return _CutNetwork(
            graph, noises[0].outputs[0], noises[1].inputs[0], noises[1].outputs[0], ceils[0].outputs[0],
            upsamplings[0].inputs[0], threads,
        )  # fmt: skip
    return _WholeNetwork(model, graph, threads, samples_per_frame)


class _CutNetwork:
    """See the module."""

    def __init__(
        self, graph: Graph, rhythm: str, mean: str, noise: str, durations: str, latent: str, threads: int
    ) -> None:
        """The names of tensors: the durations' noise, the mean of the latent vectors, their noise, the durations, the
        decoder's input.
        """
        noises = (rhythm, noise)
        first = graph.needed((durations, mean), noises)
        second = graph.needed((latent,), noises) - first
        crossing = sorted({mean, *graph.between(first, second)})
        self._rhythm, self._mean, self._noise, self._latent = rhythm, mean, noise, latent
        self._crossing = crossing
        self._durations_part = _session(graph.part((durations, *crossing), noises), threads)
        self._latent_part = _session(graph.part((latent,), (noise, *crossing)), threads)
        self._decoder = _session(graph.part(graph.outputs[:1], (latent,)), threads)
        probe = self.prepare([0] * 8, 0, (0.0, 1.0, 0.0), 0)
        self.samples_per_frame = self._run_decoder(probe.latent).size // probe.frames

    def prepare(self, symbols: list[int], speaker: int, scales: Scales, seed: int) -> Utterance:
        random = np.random.default_rng(seed)
        given = _inputs(symbols, speaker, scales)
        given[self._rhythm] = random.standard_normal((1, 2, len(symbols)), np.float32)
        durations, *crossing = _run(self._durations_part, given)
        given |= dict(zip(self._crossing, crossing, strict=True))
        given[self._noise] = random.standard_normal(given[self._mean].shape, np.float32)
        (latent,) = _run(self._latent_part, given)
        return Utterance(latent, np.cumsum(durations.reshape(-1), dtype=np.float64), latent.shape[-1])

    def decode(self, utterance: Utterance, start: int, end: int) -> Waveform:
        first, last = max(0, start - CONTEXT_FRAMES), min(utterance.frames, end + CONTEXT_FRAMES)
        wave = self._run_decoder(utterance.latent[:, :, first:last])
        return wave[(start - first) * self.samples_per_frame :][: (end - start) * self.samples_per_frame]

    def _run_decoder(self, latent: NDArray[np.float32]) -> Waveform:
        (wave,) = _run(self._decoder, {self._latent: latent})
        flat: Waveform = wave.reshape(-1)
        return flat


class _WholeNetwork:
    """A network of another structure: it runs as a whole, and symbols are taken to be of equal length."""

    def __init__(self, model: bytes, graph: Graph, threads: int, samples_per_frame: int) -> None:
        self.samples_per_frame = samples_per_frame
        self._output = graph.outputs[0]
        self._session = _session(model, threads)

    def prepare(self, symbols: list[int], speaker: int, scales: Scales, seed: int) -> Utterance:
        (wave, *_) = _run(self._session, _inputs(symbols, speaker, scales))
        frames = -(-wave.size // self.samples_per_frame)
        return Utterance(wave.reshape(1, 1, -1), np.linspace(0, frames, len(symbols) + 1)[1:], frames)

    def decode(self, utterance: Utterance, start: int, end: int) -> Waveform:
        wave: Waveform = utterance.latent.reshape(-1)[start * self.samples_per_frame : end * self.samples_per_frame]
        return wave


def _inputs(symbols: list[int], speaker: int, scales: Scales) -> dict[str, Any]:
    return {
        "input": np.array([symbols], np.int64),
        "input_lengths": np.array([len(symbols)], np.int64),
        "scales": np.array(scales, np.float32),
        "sid": np.array([speaker], np.int64),
    }


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, too
    # Threads that spin while they wait would take the cores from the other stages.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Planning it compares all pairs of the 2,700 operations: 3 s of CPU time at each start, for no faster call.
    options.enable_mem_reuse = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: Any, given: dict[str, Any]) -> list[Any]:
    """Run a session with those of the tensors in `given` that it takes."""
    taken = {one.name: given[one.name] for one in session.get_inputs()}
    outputs: list[Any] = session.run(None, taken)
    return outputs


__all__ = ["BadGraph", "Network", "Scales", "Utterance", "load_network"]
