"""A chat model that says a fixed text, in a fixed number of deltas after a fixed delay. For benchmarks and tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

from shared.protocol.session import Message, Tool
from shared.settings import Settings


class ScriptedModel:
    """See `engine.ChatModel`."""

    slots = 256

    def __init__(self, settings: Settings) -> None:
        self._delay_s = settings.scripted_llm_ms / 1000
        self._text = settings.scripted_text
        self._deltas = _cut(self._text, settings.scripted_deltas)

    async def load(self) -> None:
        pass

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncIterator[str]:
        """Yield the script, whatever the messages are; only the rest if it starts with `prefix`, else nothing."""
        if not self._text.startswith(prefix):
            return
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        skipped = len(prefix)
        for delta in self._deltas:
            if skipped < len(delta):
                yield delta[skipped:]
            skipped = max(0, skipped - len(delta))

    async def close(self) -> None:
        pass


def _cut(text: str, count: int) -> tuple[str, ...]:
    """Cut a text into `count` pieces of nearly equal length. Some are empty if the text is shorter than that."""
    marks = [len(text) * index // count for index in range(count + 1)]
    return tuple(text[start:stop] for start, stop in pairwise(marks))
