"""How much of a machine's memory a chat model keeps for what it has read of conversations."""

from typing import Any

from shared.engines.devices import Device
from shared.settings import Settings

TOKENS_ON_CPU = 16_384
BYTES_ON_CPU = 2 << 30
"""What the cache has of a machine's memory, of which others need some too; the lesser of the two counts."""

PAGE = {"cuda": 256, "cpu": 32, "mps": 32}
"""Tokens of a page of the cache: what flash attention takes on a GPU; elsewhere small, so that more is shared."""


def cache_options(config: Any, device: Device, settings: Settings, longest: int) -> tuple[dict[str, Any], int]:
    """What to tell the library; and the tokens of the longest conversation, `longest` or what of it there is room for.

    `config` is that of a model of transformers.
    """
    page = PAGE[device.kind]
    options: dict[str, Any] = {"page_size": page, "max_requests_per_batch": settings.model_slots}
    if device.kind != "cpu":
        return options | {"max_memory_percent": _share(device, settings)}, longest
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    per_layer = 2 * (getattr(config, "num_key_value_heads", None) or heads) * size * device.dtype.itemsize
    room = BYTES_ON_CPU // (per_layer * config.num_hidden_layers)
    pages = max(2, min(max(TOKENS_ON_CPU, 2 * longest), room) // page)
    # The library's thread ends where one conversation alone has no room; a page of it may be begun twice.
    return options | {"num_blocks": pages, "max_batch_tokens": 512}, min(longest, (pages - 1) * page)


def _share(device: Device, settings: Settings) -> float:
    """Part of the memory that is free now: the library knows nothing of `PARLEY_DEVICE_MEMORY`."""
    if device.kind != "cuda":
        return settings.cache_memory
    import torch

    free, total = torch.cuda.mem_get_info(device.name)
    mine = max(0.0, total * settings.device_memory - torch.cuda.memory_reserved(device.name))
    return settings.cache_memory * min(1.0, mine / max(1, free))
