"""Size of the KV cache for continuous batching."""

from typing import Any

from shared.engines.devices import Device
from shared.settings import Settings

TOKENS_ON_CPU = 16_384
BYTES_ON_CPU = 2 << 30
"""Limits of the cache in main memory, which other processes need, too. The smaller of the two applies."""

PAGE = {"cuda": 256, "cpu": 32, "mps": 32}
"""Tokens per page of the cache. Flash attention requires 256 on a GPU. Small pages elsewhere share longer prefixes."""


def cache_options(config: Any, device: Device, settings: Settings, longest: int) -> tuple[dict[str, Any], int]:
    """Return the library's options for the cache, and the maximum context length in tokens: `longest`, or less if the
    cache is too small for it.

    `config` is the text configuration of a transformers model.
    """
    page = PAGE[device.kind]
    options: dict[str, Any] = {"page_size": page, "max_requests_per_batch": settings.model_slots}
    if device.kind != "cpu":
        return options | {"max_memory_percent": _memory_share(device, settings)}, longest
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    per_layer = 2 * (getattr(config, "num_key_value_heads", None) or heads) * size * device.dtype.itemsize
    room = BYTES_ON_CPU // (per_layer * config.num_hidden_layers)
    pages = max(2, min(max(TOKENS_ON_CPU, 2 * longest), room) // page)
    # The library's thread dies if a single conversation does not fit. One page is kept back: two may be partly filled.
    return options | {"num_blocks": pages, "max_batch_tokens": 512}, min(longest, (pages - 1) * page)


def _memory_share(device: Device, settings: Settings) -> float:
    """Return the cache's share of the free memory, 0 to 1. The library does not know `PARLEY_DEVICE_MEMORY`."""
    if device.kind != "cuda":
        return settings.cache_memory
    import torch

    free, total = torch.cuda.mem_get_info(device.name)
    available = max(0.0, total * settings.device_memory - torch.cuda.memory_reserved(device.name))
    return settings.cache_memory * min(1.0, available / max(1, free))
