"""End a reply at the end of a sentence when it reaches its longest length, instead of in the middle of one. Pure.

Near the limit, a sentence is passed on when it is complete. So what is shown, spoken and recorded ends alike.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from services.llm.engine import Usage
from services.llm.sentences import SentenceCutter

T = TypeVar("T")

LAST_TOKENS = 60
"""A sentence that begins within these last tokens is passed on only if it is complete."""
ROOM_TOKENS = 25
"""No sentence is begun with fewer tokens left than this."""
CHARACTERS_PER_TOKEN = 6
"""The most of usual text. Engines that report no count are estimated by it, and by the number of their deltas."""
_MAY_END = re.compile(r"[.!?\u2026\u0964\u061f\u06d4\u3002\uff01\uff1f\n]")
_ENDED = re.compile(rf"{_MAY_END.pattern}[\"'\u2019\u201d\u00bb)\]\u300d\u300f*_`\s]*$")


class SentenceLimit:
    """Takes the text of one reply, and returns what may be passed on."""

    def __init__(self, language: str, tokens: int, begun: str = "") -> None:
        """`tokens`: the longest length of a reply. `begun`: text of an earlier attempt, which was passed on."""
        self._cutter = SentenceCutter(language)
        self._limit, self._hold_at = tokens, min(max(tokens - LAST_TOKENS, tokens // 2), tokens - ROOM_TOKENS)
        self._text, self._tokens = "", 0
        self._cut = self._end = 0  # end of the last piece, and of the last complete sentence
        self._holding = self.over = False
        self._passed = len(begun)
        self._take(begun, 0)

    @property
    def full(self) -> bool:
        """Whether the reply has its longest length, as far as that is known."""
        return self._tokens >= self._limit

    def feed(self, delta: str, tokens: int = 0) -> str:
        """Return the text to pass on. Then `over` says whether the reply ends here. `tokens`: how many were generated."""
        ended = self._take(delta, tokens)
        near = self._tokens >= self._hold_at
        self._holding |= near and ended
        self.over = ended and self._limit - self._tokens < ROOM_TOKENS
        if not near:
            return self._pass(len(self._text))
        # The sentence that was begun before may end here: that is certain only with the next word.
        found = None if self._holding else _MAY_END.search(self._text, self._end)
        return self._pass(self._end if self._holding else found.end() if found else len(self._text))

    def finish(self, *, cut: bool) -> str:
        """Return the rest to pass on at the end of the reply. `cut`: the engine cut it off."""
        self._advance(self._cutter.finish()[:-1])
        unfinished = cut and not _ENDED.search(self._text)
        begun_sentence = self._passed > self._end or not self._end
        return self._pass(self._end if unfinished and not begun_sentence else len(self._text))

    def _take(self, delta: str, tokens: int) -> bool:
        """Add text. Returns whether it shows that a sentence is complete."""
        self._text += delta
        self._tokens = max(self._tokens + bool(delta), tokens, len(self._text) // CHARACTERS_PER_TOKEN)
        return self._advance(self._cutter.feed(delta))

    def _advance(self, pieces: Sequence[str]) -> bool:
        """Find the pieces in the text. Returns whether one of them is a sentence: the cutter also cuts very long ones."""
        before = self._end
        for piece in pieces:
            self._cut = self._text.index(piece, self._cut) + len(piece)
            if _ENDED.search(piece):
                self._end = self._cut
        return self._end > before

    def _pass(self, end: int) -> str:
        start, self._passed = self._passed, max(self._passed, end)
        return self._text[start : self._passed]


async def end_with_a_sentence(
    deltas: AsyncGenerator[str | T | Usage, None], limit: SentenceLimit
) -> AsyncGenerator[str | T | Usage, None]:
    """Pass a model's deltas on, with the text that the limit lets pass. The model is stopped where the reply is over; the
    `finish_reason` of its usage then says so."""
    usage = Usage()
    async with aclosing(deltas):
        async for delta in deltas:
            if not isinstance(delta, str):
                usage = delta if isinstance(delta, Usage) else usage
                yield delta
                continue
            if text := limit.feed(delta, usage.reply):
                yield text
            if limit.over:
                usage.finish_reason = "length"
                yield usage
                return
    if not usage.finish_reason and limit.full:
        usage.finish_reason = "length"
        yield usage
    if rest := limit.finish(cut=usage.finish_reason == "length"):
        yield rest
