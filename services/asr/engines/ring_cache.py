"""Keys and values of many streams side by side, each of which may go back a little. Blocking; for one thread.

The library's caches hold a batch that begins and ends together. Here each stream has a row of its own and stands where it
stands, and those that have something to say next share a call.
"""

from collections.abc import Sequence
from typing import Any

_FIRST_ROWS, _FIRST_LENGTH = 1, 256
"""What there is room for at first; both double."""


class RingCache:
    """What the layers of a part of a model remember. To them it is one of the library's own: they call `update`.

    A row is a ring: what has left the window is overwritten. There is room for `spare` positions more than the window, so
    that a stream which goes back by so many finds all that it saw there, and for `most` that come in one call.
    """

    def __init__(self, config: Any, spare: int, most: int, device: str, dtype: Any) -> None:
        self._window = config.sliding_window or config.max_position_embeddings
        self._size = max(self._window + spare, most)
        self._heads = (config.num_key_value_heads, config.head_dim)
        self._device, self._dtype = device, dtype
        self._room = (0, 0)  # rows, positions
        self._kept: list[tuple[Any, Any] | None] = [None] * config.num_hidden_layers
        self._rows: Any = None
        self._places: Any = None
        self._seen: Any = None

    def begin(self, rows: Sequence[int], starts: Sequence[int], count: int) -> tuple[Any, Any]:
        """The next call is for so many tokens of each of these rows, from these positions on.

        Returns their positions (batch, tokens) and what each of them may see (batch, 1, tokens, places).
        """
        import torch

        length = min(self._size, max(starts) + count)
        self._make_room(max(rows) + 1, length)
        index = torch.tensor([*rows, *starts], device=self._device).reshape(2, -1, 1)
        positions = index[1] + torch.arange(count, device=self._device)
        self._rows, self._places = index[0], positions % self._size
        neighbours = range(rows[0], rows[0] + len(rows))
        # Those that lie side by side are not copied to be read.
        together = slice(neighbours.start, neighbours.stop) if list(rows) == list(neighbours) else index[0, :, 0]
        self._seen = together, slice(length)
        newest = positions[:, -1:]
        # What each place holds, as the newest sees it: what is later than that was taken back.
        held = newest - (newest - torch.arange(length, device=self._device)) % self._size
        held, asking = held[:, None, :], positions[:, :, None]
        return positions, ((held >= 0) & (held <= asking) & (held > asking - self._window))[:, None]

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Keep what a layer made (batch, heads, tokens, size). Returns all that its rows hold, in any order."""
        kept = self._kept[layer]
        assert kept is not None, "begin comes first"  # noqa: S101
        for old, new in zip(kept, (keys, values), strict=True):
            old[self._rows, self._places] = new.transpose(1, 2)
        return kept[0][self._seen].transpose(1, 2), kept[1][self._seen].transpose(1, 2)

    def _make_room(self, rows: int, length: int) -> None:
        import torch

        if rows <= self._room[0] and length <= self._room[1]:
            return
        before = self._room
        self._room = (
            _doubled(before[0] or _FIRST_ROWS, rows),
            min(self._size, _doubled(before[1] or _FIRST_LENGTH, length)),
        )
        for layer, kept in enumerate(self._kept):
            # Zeros: what nobody may see is still multiplied, by nothing.
            made = [torch.zeros(*self._room, *self._heads, device=self._device, dtype=self._dtype) for _ in "kv"]
            if kept is not None:
                for old, new in zip(kept, made, strict=True):
                    new[: before[0], : before[1]] = old
            self._kept[layer] = (made[0], made[1])


def _doubled(size: int, least: int) -> int:
    while size < least:
        size *= 2
    return size
