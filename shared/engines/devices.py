"""Where a model calculates and with which numbers. The one file of `shared` that knows torch, and only when it is called."""

from dataclasses import dataclass
from typing import Any

from shared.distribution import not_installed
from shared.engines.registry import EngineLost, UnknownEngine
from shared.settings import Settings

_LOST = ("out of memory", "cuda error", "cublas_status", "cudnn_status", "device-side assert", "mps backend")
"""What the messages of an accelerator that will not calculate any more have in common, in small letters."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of this machine, made ready."""

    name: str
    """As torch calls it: `cpu`, `cuda:0`, `mps`."""
    dtype: Any
    """A `torch.dtype`."""

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


def device_kind(settings: Settings) -> str:
    """`cpu`, `cuda` or `mps`: what the setting says, or what there is."""
    if settings.device != "auto":
        return settings.device.partition(":")[0]
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def open_device(settings: Settings) -> Device:
    """Find the device that the settings name, and set this process up for it: threads, its share of the memory.

    Raises:
        UnknownEngine: there is no such device here, or no torch.
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
        torch.set_float32_matmul_precision("high")  # TF32, where something is left in float32
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
    # Where the processor multiplies 16 bits itself, Whisper takes 0.57 instead of 1.02 of the time and a chat model a third.
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = settings.quantize == "none" and any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def quantized(model: Any, settings: Settings, device: Device) -> Any:
    """The model with its linear layers in eight bits, where the settings ask for it.

    Raises:
        UnknownEngine: on a GPU, where it would be slower.
    """
    if settings.quantize == "none":
        return model
    if device.kind != "cpu":
        raise UnknownEngine(f"PARLEY_QUANTIZE={settings.quantize!r} is for a CPU, and the device is {device.name}")
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated for a package of its own, and says so in two ways
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]


def lost(error: BaseException) -> EngineLost | None:
    """What to end the worker with, if the device that raised this will not calculate any more; else None."""
    text = f"{type(error).__name__}: {error}".lower()
    if not isinstance(error, RuntimeError | MemoryError) or not any(
        mark in text for mark in (*_LOST, "memoryerror", "outofmemory")
    ):
        return None
    first = (str(error) or type(error).__name__).splitlines()[0]
    if "memory" in text:
        return EngineLost(
            f"the device has no memory left ({first}). Lower PARLEY_BATCH or PARLEY_MODEL_SLOTS, choose a smaller "
            "model, or give the stages devices of their own (PARLEY_DEVICE)."
        )
    return EngineLost(f"the device does not calculate any more ({first}). This process ends; a new one begins afresh.")
