"""The device and number format that a model runs with. The only file of `shared` that imports torch, lazily."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.distribution import not_installed
from shared.engines.registry import EngineLost, UnknownEngine, first_line
from shared.settings import Settings

_LOST = (
    "out of memory",
    "cuda error",
    "cuda failed",
    "cublas_status",
    "cudnn_status",
    "device-side assert",
    "mps backend",
)
"""Parts of the messages, in lower case, with which accelerators fail for good."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of this machine that this process is set up for."""

    name: str
    """Torch's name of it: `cpu`, `cuda:0`, `mps`."""
    dtype: Any
    """The `torch.dtype` that models use on it."""

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


def device_kind(settings: Settings) -> str:
    """Return `cpu`, `cuda` or `mps`: the configured device or, with `auto`, the fastest available one."""
    if settings.device != "auto":
        return settings.device.partition(":")[0]
    if "torch" not in sys.modules and not _may_have_gpu():
        return "cpu"  # an engine that needs no torch does not wait seconds for its import
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cpu_threads(settings: Settings) -> int:
    """Return how many threads a small model uses on a CPU: as configured, or half of the cores.

    The stages share the cores. On two cores, two threads of such a model wait for each other longer than they save.
    """
    return settings.threads or max(1, (os.cpu_count() or 1) // 2)


def _may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether torch may find a GPU: on Linux, one of these devices has to exist."""
    names = ("nvidia*", "nvmap", "kfd", "dxg")  # NVIDIA's, also on Jetson; AMD's; those of Windows under its Linux
    return sys.platform != "linux" or any(any(devices.glob(name)) for name in names)


def open_device(settings: Settings) -> Device:
    """Find the configured device, and set this process's threads and share of its memory.

    Raises:
        UnknownEngine: this machine does not have the device, or torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UnknownEngine(not_installed("Support for neural models", "neural", error.name)) from error
    kind = device_kind(settings)
    name = kind if settings.device == "auto" else settings.device
    if kind == "cuda":
        count = torch.cuda.device_count()
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise UnknownEngine(
                f"PARLEY_DEVICE={settings.device!r}: this machine has {count} CUDA devices that torch sees"
            )
        name = f"cuda:{index}"
        torch.cuda.set_device(index)
        if settings.device_memory < 1:
            torch.cuda.set_per_process_memory_fraction(settings.device_memory, index)
        torch.set_float32_matmul_precision("high")  # TF32 for layers that stay in float32
    elif kind == "mps" and not torch.backends.mps.is_available():
        raise UnknownEngine(f"PARLEY_DEVICE={settings.device!r}: torch sees no such device on this machine")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return Device(name, _dtype(settings, kind))


def _dtype(settings: Settings, kind: str) -> Any:
    import torch

    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if kind == "mps":
        return torch.float16
    # On a CPU with native bfloat16, Whisper takes 0.57 of the time, a chat model a third.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = settings.quantize == "none" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def quantized(model: Any, settings: Settings, device: Device) -> Any:
    """Return the model with its linear layers quantised to int8, if `PARLEY_QUANTIZE` says so; else the model itself.

    Raises:
        UnknownEngine: the device is not a CPU; int8 is slower there.
    """
    if settings.quantize == "none":
        return model
    if device.kind != "cpu":
        raise UnknownEngine(f"PARLEY_QUANTIZE={settings.quantize!r} is for a CPU, and the device is {device.name}")
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of another package, with two warnings
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]


def lost(error: BaseException) -> EngineLost | None:
    """Return an `EngineLost` if the error means that the device has failed for good; else None."""
    text = f"{type(error).__name__}: {error}".lower()
    if not isinstance(error, RuntimeError | MemoryError) or not any(
        mark in text for mark in (*_LOST, "memoryerror", "outofmemory")
    ):
        return None
    if "memory" in text:
        return EngineLost(
            f"the device has no memory left ({first_line(error)}). Lower PARLEY_BATCH or PARLEY_MODEL_SLOTS, choose a "
            "smaller model, or put the stages on different devices (PARLEY_ASR_DEVICE and the like)."
        )
    return EngineLost(f"the device has failed ({first_line(error)}). This process exits and must be restarted.")
