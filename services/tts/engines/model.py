"""The base class of the transformers models that speak: loading, batching by length, and cancellation."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from services.tts.engines.waveform import Waveform
from shared.engines.devices import Device
from shared.settings import Settings

log = structlog.get_logger()

VOICE = "speaker-0"
"""The voice of models with a single voice, which has no name."""

CHARACTERS_PER_CALL = 3200
"""Limit for a batch: characters of the longest text times number of texts. Memory grows with it."""

SILENCE: Waveform = np.zeros(0, np.float32)


class Abandoned(Exception):
    """The synthesis was stopped because its sentence was cancelled."""


class Model:
    """A loaded model. Blocking; used by one thread, except for `prepare`."""

    rate_hz: int
    voices: tuple[str, ...] = (VOICE,)
    """The first is the default."""
    languages: frozenset[str] = frozenset()
    """Two-letter codes, or ISO 639-3 for languages without one; empty if the model does not name its language."""
    batches = False
    """Whether a sentence sounds the same in a batch as alone, so that sentences may share a call."""
    longest = 400
    """Maximum characters of a text."""
    exact = True
    """Whether to compute in 32 bits: these models are small, and most are sensitive to rounding."""
    has_speed = False
    processor = "AutoTokenizer"
    """The class of transformers that prepares the text."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        import transformers

        library: Any = transformers
        library.logging.set_verbosity_error()  # its warnings are about intended options
        library.logging.disable_progress_bar()
        import torch

        self._device = device
        dtype = torch.float32 if self.exact else device.dtype
        loaded = getattr(library, architecture).from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model: Any = loaded.to(device.name).eval()
        self._processor: Any = getattr(library, self.processor).from_pretrained(folder, local_files_only=True)
        self._warned_of_speed = False
        self._wanted: Callable[[], bool] = bool
        self._finish(folder, settings)

    def _finish(self, folder: Path, settings: Settings) -> None:
        """Set `rate_hz` and whatever the subclass needs."""
        raise NotImplementedError

    def prepare(self, text: str) -> str:
        """Return the text in characters that the model knows. Thread-safe; may take milliseconds."""
        return text

    def speak(self, texts: Sequence[str], voice: str, speed: float, wanted: Callable[[], bool]) -> list[Waveform]:
        """Return one waveform for each text. Raises `Abandoned` soon after `wanted` returns False."""
        import torch

        if speed != 1.0 and not self.has_speed and not self._warned_of_speed:
            self._warned_of_speed = True
            log.warning("speed ignored: the model has only one", model_type=self._model.config.model_type, speed=speed)
        self._wanted = wanted
        waves: list[Waveform] = [SILENCE] * len(texts)
        pending = [index for index, text in enumerate(texts) if self._has_sound(text)]
        pending.sort(key=lambda index: len(texts[index]), reverse=True)
        with torch.inference_mode():
            while pending:
                count = max(1, CHARACTERS_PER_CALL // len(texts[pending[0]])) if self.batches else 1
                call, pending = pending[:count], pending[count:]
                spoken = self._speak([texts[index] for index in call], voice, speed)
                for index, wave in zip(call, spoken, strict=True):
                    waves[index] = wave.float().cpu().numpy().reshape(-1)
        return waves

    def _has_sound(self, text: str) -> bool:
        return any(char.isalnum() for char in text)

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        """Return a tensor of samples for each text."""
        raise NotImplementedError

    def _inputs(self, texts: list[str]) -> Any:
        return self._processor(texts, padding=True, return_tensors="pt").to(self._device.name)

    def _stop_at(self, *modules: Any) -> None:
        """Check before each run of these modules whether the speech is still wanted, and raise `Abandoned` if not."""

        def check(*_: Any) -> None:
            if not self._wanted():
                raise Abandoned

        for module in modules:
            module.register_forward_pre_hook(check)


def numbered(count: int) -> tuple[str, ...]:
    """Return names for voices without names."""
    return tuple(f"speaker-{number}" for number in range(count))


def seed(text: str) -> int:
    """Return the random seed for a text, so that a second attempt at a sentence yields the same samples."""
    return zlib.crc32(text.encode())
