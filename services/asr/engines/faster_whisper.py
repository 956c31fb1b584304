"""Whisper by faster-whisper, on CTranslate2: no torch, int8 on a CPU, float16 on a GPU."""

import json
import os
from pathlib import Path

from services.asr.engines.ctranslate2_whisper import CTranslate2Whisper
from services.asr.engines.model import Model
from services.asr.engines.offline_recognizer import OfflineRecognizer
from shared.distribution import not_installed
from shared.engines.devices import cpu_threads, device_kind, lost
from shared.engines.models import find_model, model_name
from shared.engines.registry import UnknownEngine, first_line
from shared.engines.repositories import needs_of
from shared.settings import Settings

NAME = "faster-whisper"

_LOADING_ERRORS = (ValueError, OSError, KeyError, TypeError, RuntimeError, MemoryError)
"""What the library raises for a damaged folder, or a number format that the device does not have."""


class FasterWhisperRecognizer(OfflineRecognizer):
    """See `engine.Recognizer`."""

    def _load(self) -> Model:
        settings = self._settings
        allow_avx512()
        try:
            import ctranslate2
            import faster_whisper
        except ImportError as error:
            raise UnknownEngine(not_installed("The faster-whisper engine", "light", error.name)) from error
        kind, index = choose_device(settings, ctranslate2.get_cuda_device_count())
        self.model_name = name = model_name("asr", NAME, settings.asr_model, kind)
        folder = find_model(name, needs_of(NAME), models_dir=settings.models_dir)
        _check_tokenizer(folder / "tokenizer.json")
        try:
            whisper = faster_whisper.WhisperModel(
                str(folder),
                device=kind,
                device_index=index,
                compute_type=compute_type(settings, kind),
                cpu_threads=cpu_threads(settings),
                local_files_only=True,
            )
        except _LOADING_ERRORS as error:
            raise lost(error) or UnknownEngine(
                f"{name} cannot be loaded from {folder}: {first_line(error)}. If a file is damaged, delete it and download "
                "the model again. It has to be a Whisper model in CTranslate2's format."
            ) from error
        return CTranslate2Whisper(whisper)


def allow_avx512(processors: Path = Path("/proc/cpuinfo")) -> None:
    """Let CTranslate2 use AVX-512 where the processor has VNNI. It reads the variable when it is imported.

    By itself it stops at AVX2, because the first processors with AVX-512 lower their clock for it. Those with VNNI hardly do.
    """
    if (
        processors.is_file()
        and "avx512_vnni" in processors.read_text().partition("flags")[2].partition("\n")[0].split()
    ):
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def _check_tokenizer(file: Path) -> None:
    """Raise `UnknownEngine` if the tokenizer is damaged. The library raises plain exceptions then."""
    try:
        json.loads(file.read_bytes())
    except ValueError as error:
        raise UnknownEngine(f"{file} is damaged: delete it and download the model again") from error


def choose_device(settings: Settings, cuda_devices: int) -> tuple[str, int]:
    """Return `cpu` or `cuda`, and which of the devices. CTranslate2 sees `cuda_devices`.

    Raises:
        UnknownEngine: the configured device does not exist, or CTranslate2 cannot use it.
    """
    # Without a GPU nobody has to ask torch, whose import takes seconds.
    kind = "cpu" if settings.device == "auto" and not cuda_devices else device_kind(settings)
    index = int(settings.device.partition(":")[2] or 0)
    if kind == "cuda" and index >= cuda_devices:
        raise UnknownEngine(
            f"PARLEY_DEVICE={settings.device!r}: this machine has {cuda_devices} CUDA devices that CTranslate2 sees"
        )
    if kind == "mps":
        raise UnknownEngine(
            f"PARLEY_DEVICE={settings.device!r}: the faster-whisper engine runs on cpu or cuda. Set PARLEY_ASR_DEVICE=cpu"
        )
    return kind, index


def compute_type(settings: Settings, kind: str) -> str:
    """Return CTranslate2's name of the number format: int8 on a CPU and float16 on a GPU, if the settings do not differ."""
    number = settings.dtype
    if number == "auto":
        number = "float16" if kind == "cuda" else "float32"
    int8 = settings.quantize == "int8" or (settings.dtype == "auto" and kind == "cpu")
    return f"int8_{number}" if int8 else number
