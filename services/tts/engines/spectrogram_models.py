"""Models that generate a spectrogram, which a vocoder turns into audio: SpeechT5 and FastSpeech2Conformer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from services.tts.engines.model import VOICE, Model, numbered
from services.tts.engines.vits import numbers_in_words
from services.tts.engines.waveform import Waveform
from shared.engines.devices import quantized
from shared.engines.models import find_model
from shared.engines.registry import UnknownEngine, first_line
from shared.settings import Settings

log = structlog.get_logger()

VOCODER = "microsoft/speecht5_hifigan"
"""The default vocoder of SpeechT5."""

FRAMES_PER_CHARACTER = 20.0
"""Maximum for SpeechT5, from its authors. A frame is 16 ms."""

ESPNET_HZ = 22_050
"""Sample rate of FastSpeech2Conformer, which is not in its configuration: the rate of LJSpeech."""


class SpeechT5(Model):
    """SpeechT5: 144 million parameters and a vocoder. Its voices are x-vectors in files.

    Sentences share a call: padding of the text is masked, each spectrogram is cut at its own end, and the vocoder runs
    on one sentence at a time. The model keeps dropout at inference; a fixed seed makes it the same in every call and
    for all sentences of a batch. Measured with a tiny model, batch against alone: same length, samples within 1e-6 of
    the peak.
    """

    batches = True

    def _finish(self, folder: Path, settings: Settings) -> None:
        from transformers import SpeechT5HifiGan

        included = folder / "vocoder"
        vocoder_folder = included if included.is_dir() else find_model(VOCODER)
        vocoder: Any = SpeechT5HifiGan.from_pretrained(vocoder_folder, local_files_only=True)
        self._vocoder = vocoder.to(self._device.name).eval()
        self.rate_hz = int(vocoder.config.sampling_rate)
        self._model = quantized(self._model, settings, self._device)
        self._stop_at(self._model.speecht5.decoder.wrapped_decoder)
        self._speakers = _x_vectors((folder, settings.data_dir), self._model.config.speaker_embedding_dim)
        self.voices = tuple(self._speakers)

    def prepare(self, text: str) -> str:
        return numbers_in_words(text, "en")

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        import torch

        speaker = torch.from_numpy(self._speakers[voice])[None].to(self._device.name)
        torch.manual_seed(0)
        inputs, step = self._inputs(texts), self._model.config.reduction_factor
        # If the model misses the end of a text, cut it where it would be cut alone.
        limits = [
            int(tokens * FRAMES_PER_CHARACTER / step) * step for tokens in inputs["attention_mask"].sum(-1).tolist()
        ]
        spectrograms, counts = self._model.generate(
            **inputs,
            speaker_embeddings=speaker.expand(len(texts), -1),
            maxlenratio=FRAMES_PER_CHARACTER,
            return_output_lengths=True,
        )
        return [self._vocoder(one[: min(ends)]) for one, *ends in zip(spectrograms, counts, limits, strict=True)]


class FastSpeech2(Model):
    """FastSpeech2Conformer with its vocoder. One sentence per call: padding changes the length (tiny model)."""

    has_speed = True

    def _finish(self, folder: Path, settings: Settings) -> None:
        self.rate_hz = ESPNET_HZ
        if self._model.config.model_config.num_speakers:
            self.voices = numbered(self._model.config.model_config.num_speakers)

    def prepare(self, text: str) -> str:
        return numbers_in_words(text, "en")

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        import torch

        self._model.model.config.speaking_speed = 1 / speed  # the model multiplies the durations by it
        speaker = {}
        if self._model.config.model_config.num_speakers:
            speaker["speaker_ids"] = torch.tensor([[self.voices.index(voice)]], device=self._device.name)
        return [self._model(**self._inputs(texts), **speaker, return_dict=True).waveform[0]]


def _x_vectors(folders: Sequence[Path], size: int) -> dict[str, Waveform]:
    """Load the speakers from the subfolders `speakers`, by name; a single speaker of zeros if there are no files.

    Raises:
        UnknownEngine: a file is not an x-vector with `size` numbers.
    """
    found: dict[str, Waveform] = {}
    for path in sorted(path for folder in folders for path in (folder / "speakers").glob("*.*")):
        if path.suffix not in (".npy", ".pt"):
            continue
        try:
            vector = _load_vector(path)
        except Exception as error:  # the readers do not document what they raise for damaged files
            raise UnknownEngine(f"{path} is not an x-vector: {first_line(error)}") from error
        if vector.size != size:
            raise UnknownEngine(
                f"{path} is not an x-vector for this model: it has {vector.size} numbers instead of {size}"
            )
        found[path.stem] = vector.reshape(-1)
    if not found:
        searched = [str(folder / "speakers") for folder in folders]
        log.warning("no x-vectors found (*.npy, *.pt): the voice will be poor", searched=searched)
    return found or {VOICE: np.zeros(size, np.float32)}


def _load_vector(path: Path) -> Waveform:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    import torch

    return np.asarray(torch.load(path, weights_only=True, map_location="cpu").float().numpy(), np.float32)
