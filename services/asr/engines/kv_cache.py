"""A key-value cache for many streams at different positions, each able to go back a little. Blocking, for one thread.

The library's caches hold a batch that begins and ends together. Here each stream has its own row and
position, and the streams whose next step is due share a call.
"""

from collections.abc import Sequence
from typing import Any

_FIRST_ROWS, _FIRST_LENGTH = 1, 256
"""Initial size. Rows and positions are doubled when needed."""


class RingKvCache:
    """The keys and values of all layers of an encoder or decoder. It has the library's method `update`.

    A row is a ring buffer: positions that have left the attention window are overwritten. It holds `spare` positions
    more than the window, so that a stream can go back by that many and still find its whole window; and at least
    `most` positions, the most that come in one call.
    """

    def __init__(self, config: Any, spare: int, most: int, device: str, dtype: Any) -> None:
        self._window = config.sliding_window or config.max_position_embeddings
        self._size = max(self._window + spare, most)
        self._heads = (config.num_key_value_heads, config.head_dim)
        self._device, self._dtype = device, dtype
        self._capacity = (0, 0)  # rows, positions
        self._layers: list[tuple[Any, Any] | None] = [None] * config.num_hidden_layers
        self._rows: Any = None
        self._slots: Any = None
        self._visible: Any = None

    def begin(self, rows: Sequence[int], starts: Sequence[int], count: int) -> tuple[Any, Any]:
        """Prepare the next call: `count` tokens of each of these rows, from these positions on.

        Returns the positions [batch, tokens] and the attention mask [batch, 1, tokens, slots].
        """
        import torch

        length = min(self._size, max(starts) + count)
        self._reserve(max(rows) + 1, length)
        index = torch.tensor([*rows, *starts], device=self._device).reshape(2, -1, 1)
        positions = index[1] + torch.arange(count, device=self._device)
        self._rows, self._slots = index[0], positions % self._size
        neighbours = range(rows[0], rows[0] + len(rows))
        # A slice of neighbouring rows is a view; other rows have to be copied to be read.
        selected = slice(neighbours.start, neighbours.stop) if list(rows) == list(neighbours) else index[0, :, 0]
        self._visible = selected, slice(length)
        newest = positions[:, -1:]
        # The position that each slot holds, seen from the newest. Later positions are stale: the stream went back.
        held = newest - (newest - torch.arange(length, device=self._device)) % self._size
        held, asking = held[:, None, :], positions[:, :, None]
        return positions, ((held >= 0) & (held <= asking) & (held > asking - self._window))[:, None]

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Store a layer's new keys and values [batch, heads, tokens, size]. Returns those of the whole rows."""
        cached = self._layers[layer]
        assert cached is not None, "begin comes first"  # noqa: S101
        for old, new in zip(cached, (keys, values), strict=True):
            old[self._rows, self._slots] = new.transpose(1, 2)
        return cached[0][self._visible].transpose(1, 2), cached[1][self._visible].transpose(1, 2)

    def _reserve(self, rows: int, length: int) -> None:
        import torch

        if rows <= self._capacity[0] and length <= self._capacity[1]:
            return
        before = self._capacity
        self._capacity = (
            _doubled(before[0] or _FIRST_ROWS, rows),
            min(self._size, _doubled(before[1] or _FIRST_LENGTH, length)),
        )
        for layer, cached in enumerate(self._layers):
            # Zeros, because masked slots are multiplied too, by zero: uninitialised memory may hold NaN.
            made = [torch.zeros(*self._capacity, *self._heads, device=self._device, dtype=self._dtype) for _ in "kv"]
            if cached is not None:
                for old, new in zip(cached, made, strict=True):
                    new[: before[0], : before[1]] = old
            self._layers[layer] = (made[0], made[1])


def _doubled(size: int, least: int) -> int:
    while size < least:
        size *= 2
    return size
