"""The slots of a llama.cpp server: which conversation uses which, so that each finds its own KV cache again.

The server can choose slots itself, by the longest common beginning of the prompts. Conversations with the same
instructions then take each other's slot while others are empty, so the engine chooses.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

RECENT_S = 60.0
"""A conversation without a reply for this time is assumed to be over: its cache may be replaced."""


@dataclass(slots=True)
class Slot:
    """One sequence of the KV cache."""

    number: int
    text: str = ""
    """The prompt and the reply that the cache holds."""
    used_s: float = 0.0
    """When the last reply ended, by the event loop's clock."""
    reserved: int = 0
    """Most tokens of the current prompt and reply; 0 while the slot is free."""


class SlotPool:
    """Lends slots to replies, which together never need more tokens than the cache holds.

    The server would fail all replies at once if they did. It drops the caches of free slots when it needs their room.
    """

    def __init__(self, slots: int, tokens: int) -> None:
        """`tokens`: capacity of the cache that all slots share."""
        self._slots = [Slot(number) for number in range(slots)]
        self._room = tokens
        self._changed = asyncio.Event()

    async def take(self, prompt: str, tokens: int) -> Slot:
        """Return the free slot that suits the prompt best. Waits until there is one, and room for `tokens`."""
        while not (free := self._free()) or tokens > self._room:
            self._changed.clear()
            await self._changed.wait()
        slot = best_slot(free, prompt, asyncio.get_running_loop().time())
        slot.text, slot.reserved = prompt, tokens
        self._room -= tokens
        return slot

    def give_back(self, slot: Slot) -> None:
        """Make a slot free for the next reply. Its cache stays."""
        self._room += slot.reserved
        slot.reserved, slot.used_s = 0, asyncio.get_running_loop().time()
        self._changed.set()

    def _free(self) -> list[Slot]:
        return [slot for slot in self._slots if not slot.reserved]


def best_slot(free: Sequence[Slot], prompt: str, now_s: float) -> Slot:
    """Return the slot whose cache saves most of the prompt, minus what another recent conversation would lose.

    Both are measured in characters. If no slot saves more than is lost, it is the one that was not used for longest.
    """

    def gain(slot: Slot) -> int:
        common = len(commonprefix((slot.text, prompt)))  # noqa: RUF071 - of characters, not of parts of a path
        lost = len(slot.text) - common if now_s - slot.used_s < RECENT_S else 0
        return common - lost

    best = max(free, key=gain)
    return best if gain(best) > 0 else min(free, key=lambda slot: slot.used_s)
