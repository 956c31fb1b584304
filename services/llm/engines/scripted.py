"""A chat model with a script: a given text in a given number of deltas, after a given delay. For benchmarks and tests."""

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
        """The script, whatever was said; after `prefix` its rest, or nothing where it does not begin so."""
        if not self._text.startswith(prefix):
            return
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        said = len(prefix)
        for delta in self._deltas:
            if said < len(delta):
                yield delta[said:]
            said = max(0, said - len(delta))

    async def close(self) -> None:
        pass


def _cut(text: str, count: int) -> tuple[str, ...]:
    """Cut a text into so many pieces of nearly one length; a text shorter than that has empty ones among them."""
    marks = [len(text) * index // count for index in range(count + 1)]
    return tuple(text[start:stop] for start, stop in pairwise(marks))
