"""The families that draw a spectrogram, which a vocoder turns into sound: SpeechT5 and FastSpeech2Conformer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from services.tts.engines.family import VOICE, Family, first_line, numbered
from services.tts.engines.vits import numbers_in_words
from services.tts.engines.waveform import Waveform
from shared.engines.devices import quantized
from shared.engines.models import find_model
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

log = structlog.get_logger()

VOCODER = "microsoft/speecht5_hifigan"
"""What turns SpeechT5's spectrograms into sound."""

MOST_FRAMES = 20.0
"""Of 16 ms, for a letter, of SpeechT5: its authors' figure."""

ESPNET_HZ = 22_050
"""Of FastSpeech2Conformer, whose configuration does not say it: LJSpeech's."""


class SpeechT5(Family):
    """SpeechT5: 144 million parameters and a vocoder; voices are x-vectors, in files.

    Sentences share a call: text is masked, each spectrogram is cut at its own end, and the vocoder takes one at a time. The
    dropout that it keeps when it speaks is the same for all of a batch and, with the same seed, in every call. Measured with
    a tiny one: the same length as alone, and samples within 1e-6 of the peak.
    """

    batches = True

    def _finish(self, folder: Path, settings: Settings) -> None:
        from transformers import SpeechT5HifiGan

        within = folder / "vocoder"
        place = within if within.is_dir() else find_model(VOCODER)
        vocoder: Any = SpeechT5HifiGan.from_pretrained(place, local_files_only=True)
        self._vocoder = vocoder.to(self._device.name).eval()
        self.rate_hz = int(vocoder.config.sampling_rate)
        self._model = quantized(self._model, settings, self._device)
        self._watch(self._model.speecht5.decoder.wrapped_decoder)
        self._speakers = _x_vectors((folder, settings.data_dir), self._model.config.speaker_embedding_dim)
        self.voices = tuple(self._speakers)

    def prepare(self, text: str) -> str:
        return numbers_in_words(text, "en")

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        import torch

        speaker = torch.from_numpy(self._speakers[voice])[None].to(self._device.name)
        torch.manual_seed(0)
        inputs, step = self._inputs(texts), self._model.config.reduction_factor
        # A text whose end the model misses lasts no longer than it would have alone.
        most = [int(tokens * MOST_FRAMES / step) * step for tokens in inputs["attention_mask"].sum(-1).tolist()]
        made, counts = self._model.generate(
            **inputs,
            speaker_embeddings=speaker.expand(len(texts), -1),
            maxlenratio=MOST_FRAMES,
            return_output_lengths=True,
        )
        return [self._vocoder(one[: min(count)]) for one, *count in zip(made, counts, most, strict=True)]


class FastSpeech2(Family):
    """FastSpeech2Conformer with its vocoder. One sentence in a call: measured with a tiny one, padding changes its length."""

    has_speed = True

    def _finish(self, folder: Path, settings: Settings) -> None:
        self.rate_hz = ESPNET_HZ
        if self._model.config.model_config.num_speakers:
            self.voices = numbered(self._model.config.model_config.num_speakers)

    def prepare(self, text: str) -> str:
        return numbers_in_words(text, "en")

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        import torch

        self._model.model.config.speaking_speed = 1 / speed  # it is multiplied with the durations
        speaker = {}
        if self._model.config.model_config.num_speakers:
            speaker["speaker_ids"] = torch.tensor([[self.voices.index(voice)]], device=self._device.name)
        return [self._model(**self._inputs(texts), **speaker, return_dict=True).waveform[0]]


def _x_vectors(places: Sequence[Path], size: int) -> dict[str, Waveform]:
    """The speakers in the folders `speakers` of those places, by name; else one of zeros.

    Raises:
        UnknownEngine: a file is no x-vector of that size.
    """
    found: dict[str, Waveform] = {}
    for path in sorted(path for place in places for path in (place / "speakers").glob("*.*")):
        if path.suffix not in (".npy", ".pt"):
            continue
        try:
            vector = _numbers(path)
        except Exception as error:  # what a file of another kind makes the readers raise, is not written anywhere
            raise UnknownEngine(f"{path} is no x-vector: {first_line(error)}") from error
        if vector.size != size:
            raise UnknownEngine(f"{path} is no x-vector for this model: {vector.size} numbers, and it takes {size}")
        found[path.stem] = vector.reshape(-1)
    if not found:
        searched = [str(place / "speakers") for place in places]
        log.warning("no voices: put x-vectors (*.npy, *.pt) there; until then it speaks with none", searched=searched)
    return found or {VOICE: np.zeros(size, np.float32)}


def _numbers(path: Path) -> Waveform:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    import torch

    return np.asarray(torch.load(path, weights_only=True, map_location="cpu").float().numpy(), np.float32)
