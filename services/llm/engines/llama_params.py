"""How a llama.cpp server is set up: the model's file, the device, and the size of the KV cache."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from services.llm.context.window import DEFAULT_CONTEXT, MIN_PROMPT
from services.llm.engines.gguf import GgufModel
from shared.engines.devices import cpu_threads
from shared.engines.models import as_folder, find_folder, how_to_bring
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import ModelMissing
from shared.settings import Settings

TOKENS_ON_CPU = 8192
"""Tokens in the KV cache of all conversations, in main memory, which other processes need, too."""
BATCH_ON_CPU = 64
"""Tokens of prompts that one step reads. Between two steps a reply can be cancelled, and the other replies go on."""
ADAPTER = "mmproj"
"""Start of the names of files that are not a chat model: they read images for one."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The KV cache in tokens."""

    total: int
    """Tokens of all conversations together."""
    longest: int
    """Most tokens of one prompt and its reply."""


def find_gguf(name: str, models_dir: Path | None = None) -> Path:
    """Return the file of a model: a .gguf file, a folder with exactly one, or a model on the hub that has one.

    A model in several parts counts as one file, its first part.

    Raises:
        ModelMissing: there is no such model on this machine.
        UnknownEngine: there are several files.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and not as_folder(name):
        if not path.is_file():
            raise ModelMissing(f"{name} is not on this machine.")
        return path
    folder = find_folder(name, models_dir=models_dir)
    found = [file for file in sorted(folder.glob("*.gguf")) if not file.name.startswith(ADAPTER)]
    files = [file for file in found if "-of-" not in file.name or "-00001-of-" in file.name]
    if not files:
        raise ModelMissing(f"{name}: no .gguf file in {folder}. {how_to_bring(name)}")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UnknownEngine(f"{name} has several models ({names}): set PARLEY_LLM_MODEL to the path of one")
    return files[0]


def build_params(library: Any, settings: Settings, path: Path, model: GgufModel) -> tuple[Any, CacheSize]:
    """Return the library's parameters of a server, and the size of its KV cache.

    Raises:
        UnknownEngine: the device does not exist, the model does not fit into the memory, or there is no room for a
            prompt beside the longest reply.
    """
    params = library.CommonParams()
    params.model.path = str(path)
    gpu = _choose_gpu(library, settings, params)
    size = cache_size(settings, path, model, gpu["memory_free"] if gpu else None)
    params.n_parallel, params.n_ctx, params.kv_unified = parallel_replies(settings), size.total, True
    # The server's second cache, in main memory, helps only those that let the server choose slots.
    params.cache_ram_mib, params.cache_idle_slots = 0, False
    # A reply is continued where the request says so. The engine's first reply is the warm-up.
    params.prefill_assistant = params.warmup = False
    if gpu is None:
        params.n_batch = params.n_ubatch = BATCH_ON_CPU
    # A prompt is read by all cores. A step of a reply has less work to share, and meanwhile the voice needs a core.
    params.cpuparams.n_threads = cpu_threads(settings)
    params.cpuparams_batch.n_threads = settings.threads or os.cpu_count() or 1
    return params, size


def parallel_replies(settings: Settings) -> int:
    """Return how many replies are generated at once."""
    return min(settings.model_slots, settings.batch)


def cache_size(settings: Settings, path: Path, model: GgufModel, gpu_free: int | None) -> CacheSize:
    """Return the size of the KV cache. `gpu_free`: free memory of the GPU in bytes; None on a CPU.

    Raises:
        UnknownEngine: see `build_params`.
    """
    longest = min(settings.context_tokens or DEFAULT_CONTEXT, model.window)
    if longest - settings.reply_tokens < MIN_PROMPT:
        raise UnknownEngine(
            f"the model has a context of {longest} tokens; PARLEY_REPLY_TOKENS={settings.reply_tokens} leaves no room"
        )
    weights = sum(part.stat().st_size for part in path.parent.glob(path.name.replace("-00001-of-", "-*-of-")))
    if gpu_free is None:
        free, total = psutil.virtual_memory().available, max(TOKENS_ON_CPU, longest)
    else:
        free = int(gpu_free * settings.device_memory)
        room = int((free - weights) * settings.cache_memory) // max(1, model.cache_bytes)
        total = max(longest, min(room, parallel_replies(settings) * longest))
    # Without this check the system kills the process that takes too much, and nobody knows why.
    if (needed := weights + total * model.cache_bytes) > free:
        raise UnknownEngine(
            f"the model needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: choose a smaller model, "
            "or lower PARLEY_CONTEXT_TOKENS"
        )
    return CacheSize(total, longest)


def _choose_gpu(library: Any, settings: Settings, params: Any) -> dict[str, Any] | None:
    """Set the device that the settings name, and return the library's description of the GPU; None for the CPU.

    Raises:
        UnknownEngine: the installed build of llama.cpp does not have the device.
    """
    kind, _, index = settings.device.partition(":")
    found = [one for one in library.get_device_info() if one["type"].name.endswith("GPU")]
    if kind == "cpu" or (kind == "auto" and not found):
        params.n_gpu_layers = 0
        return None
    place = int(index or 0)
    if place >= len(found):
        raise UnknownEngine(
            f"PARLEY_DEVICE={settings.device!r}: this build of xllamacpp sees {len(found)} GPUs. The package index has "
            "the build for CPUs and Macs; the page of xllamacpp says how to install the one for CUDA, ROCm or Vulkan"
        )
    params.split_mode, params.main_gpu = library.llama_split_mode.LLAMA_SPLIT_MODE_NONE, place
    gpu: dict[str, Any] = found[place]
    return gpu
