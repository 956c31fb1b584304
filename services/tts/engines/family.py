"""What all families of speaking models share: the network, what reads the text, and the way out when nobody listens."""

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
"""Of the models that have one voice, which has no name."""

CHARACTERS_PER_CALL = 3200
"""What a batch takes of memory grows with its longest sentence times their number: 8 of the longest that there are."""

SILENCE: Waveform = np.zeros(0, np.float32)


class Abandoned(Exception):
    """Nobody wants the sound any more."""


class Family:
    """What all families share: the network, what reads the text, and the way out when nobody listens any more."""

    rate_hz: int
    voices: tuple[str, ...] = (VOICE,)
    languages: frozenset[str] = frozenset()
    batches = False
    longest = 400
    exact = True
    """Calculated in 32 bits: it is small, and its sums are delicate."""
    has_speed = False

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        import transformers

        library: Any = transformers
        library.logging.set_verbosity_error()  # it warns of what is meant so
        library.logging.disable_progress_bar()
        import torch

        self._device = device
        dtype = torch.float32 if self.exact else device.dtype
        loaded = getattr(library, architecture).from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model: Any = loaded.to(device.name).eval()
        self._reader: Any = self._read(library, folder)
        self._told_of_speed = False
        self._wanted: Callable[[], bool] = bool
        self._finish(folder, settings)

    def _read(self, library: Any, folder: Path) -> Any:
        return library.AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def _finish(self, folder: Path, settings: Settings) -> None:
        """Set `rate_hz`, and whatever is a family's own."""
        raise NotImplementedError

    def prepare(self, text: str) -> str:
        return text

    def speak(self, texts: Sequence[str], voice: str, speed: float, wanted: Callable[[], bool]) -> list[Waveform]:
        import torch

        if speed != 1.0 and not self.has_speed and not self._told_of_speed:
            self._told_of_speed = True
            log.warning("this model speaks at its own speed only", kind=self._model.config.model_type, asked=speed)
        self._wanted = wanted
        waves: list[Waveform] = [SILENCE] * len(texts)
        spoken = [place for place, text in enumerate(texts) if self._has_sound(text)]
        spoken.sort(key=lambda place: len(texts[place]), reverse=True)
        with torch.inference_mode():
            while spoken:
                count = max(1, CHARACTERS_PER_CALL // len(texts[spoken[0]])) if self.batches else 1
                call, spoken = spoken[:count], spoken[count:]
                made = self._speak([texts[place] for place in call], voice, speed)
                for place, wave in zip(call, made, strict=True):
                    waves[place] = wave.float().cpu().numpy().reshape(-1)
        return waves

    def _has_sound(self, text: str) -> bool:
        return any(char.isalnum() for char in text)

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        """A tensor of samples for each text."""
        raise NotImplementedError

    def _inputs(self, texts: list[str]) -> Any:
        return self._reader(texts, padding=True, return_tensors="pt").to(self._device.name)

    def _watch(self, *steps: Any) -> None:
        """Stop at the next of these modules, when nobody wants the sound any more."""

        def check(*_: Any) -> None:
            if not self._wanted():
                raise Abandoned

        for step in steps:
            step.register_forward_pre_hook(check)


def numbered(count: int) -> tuple[str, ...]:
    """Names for voices that have none."""
    return tuple(f"speaker-{number}" for number in range(count))


def seed(text: str) -> int:
    """What is drawn for a text is always the same: a sentence that is spoken again, elsewhere, is the same sound."""
    return zlib.crc32(text.encode())


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
