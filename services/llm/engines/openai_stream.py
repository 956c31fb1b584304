"""Read the stream of one reply from an endpoint: deltas, tool calls and usage, without hidden text."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import structlog

from services.llm.engine import Usage, why_cut
from services.llm.engines.openai_wire import ToolCallAssembler, update_usage
from services.llm.engines.repeated_prefix import RepeatedPrefix
from services.llm.hidden_text import HiddenText, ThoughtHabit
from shared.engines.endpoints import Endpoint, EndpointFailed
from shared.protocol.session import ToolCall

log = structlog.get_logger()

TAIL_S = 0.5
"""Time to read the rest of the stream after the last token, so that its connection can be reused."""
CHARACTERS_PER_TOKEN = 16
"""More than the average of any reply. A longer reply comes from an endpoint that ignores the token limit."""
REASONING_FIELDS = ("reasoning_content", "reasoning")
"""The fields in which servers send the reasoning of a model."""
MAX_FINISH_REASON = 32
_END = object()


class StreamReader:
    """The stream of one reply."""

    def __init__(self, endpoint: Endpoint, stream: Any, usage: Usage, habit: ThoughtHabit, prefix: str) -> None:
        """`usage`: gets the counts. `habit`: of the endpoint's model; it learns from the reply. `prefix`: the beginning of the
        reply."""
        self._endpoint, self._stream, self._usage, self._habit = endpoint, stream, usage, habit
        # The stage reads every engine's text in the same way, and finds nothing more here (7 µs a delta). Only at the
        # endpoint is known whether its model's template opens a thought, and that a reply without words is to be asked for again.
        self._reader, self._repeated = HiddenText(habit, begun=bool(prefix)), RepeatedPrefix(prefix)
        self._calls = ToolCallAssembler()

    async def pieces(self, deadline: float, next_s: float, tokens: int) -> AsyncGenerator[str | ToolCall, None]:
        """Yield the reply. The usage is complete at the end.

        Args:
            deadline: Time of the first token, by the event loop's clock.
            next_s: Longest pause between tokens.
            tokens: Longest length of a reply.

        Raises:
            EndpointFailed: no token came in time, the stream stalled, or it ended without a finish_reason.
        """
        now, finished, left = asyncio.get_running_loop().time, False, CHARACTERS_PER_TOKEN * tokens
        while not finished:
            delta, finished = await self._next(deadline)
            content, fragments = _content(delta), getattr(delta, "tool_calls", None)
            reasons = any(getattr(delta, name, None) for name in REASONING_FIELDS)
            if reasons and self._habit.opens is None:
                self._habit.opens = False  # the server takes the thoughts out of the text
            for call in self._calls.feed(fragments or ()):
                yield call
            for piece in self._repeated.drop(self._reader.feed(content)):
                yield piece if isinstance(piece, ToolCall) else piece[:left]
                left -= 0 if isinstance(piece, ToolCall) else len(piece)
                if left <= 0:
                    log.warning("reply cut off: endpoint ignores the token limit", endpoint=self._endpoint.url)
                    self._usage.finish_reason = "length"
                    return
            if content or fragments or reasons:
                deadline = now() + next_s
        for piece in (*self._repeated.drop(self._reader.finish()), *self._repeated.finish()):
            yield piece
        if not why_cut(self._usage.finish_reason):  # the last call is complete
            for call in self._calls.finish():
                yield call
        await self._read_tail()

    async def _next(self, deadline: float) -> tuple[Any, bool]:
        """Return the next delta, None if the chunk has none, and whether it is the last. Updates the usage."""
        async with self._endpoint.until(deadline):
            chunk = await anext(self._stream, _END)
        if chunk is _END:
            kind = self._stream.response.headers.get("content-type", "nothing")
            raise EndpointFailed(self._endpoint.url, f"the stream ended without a finish_reason ({kind})")
        choices = getattr(chunk, "choices", None)
        choice = choices[0] if choices and isinstance(choices, list) else None
        if (reported := getattr(chunk, "usage", None)) is not None:
            update_usage(self._usage, reported)
        finish_reason = getattr(choice, "finish_reason", None)
        if finish_reason and isinstance(finish_reason, str):
            self._usage.finish_reason = finish_reason[:MAX_FINISH_REASON]
        return getattr(choice, "delta", None), bool(finish_reason)

    async def _read_tail(self) -> None:
        deadline = asyncio.get_running_loop().time() + TAIL_S
        with suppress(EndpointFailed):
            while True:
                await self._next(deadline)


def _content(delta: Any) -> str:
    """The text of a delta. A refusal is text, too: the person is to hear it."""
    found = getattr(delta, "content", None) or getattr(delta, "refusal", None)
    return found if isinstance(found, str) else ""
