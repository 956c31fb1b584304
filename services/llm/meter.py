"""What one reply takes: the time to its first token, and its tokens, where the model knows them."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.llm.engine import Usage
from services.llm.tracing import describe_usage
from shared.observability import metrics
from shared.protocol.session import ToolCall
from shared.protocol.speech import Speech
from shared.worker.work import Work

DIRECTIONS = ("prompt", "cached", "reply")


async def metered(
    work: Work, engine: str, deltas: AsyncGenerator[str | ToolCall | Speech | Usage, None]
) -> AsyncGenerator[str | ToolCall | Speech, None]:
    """The deltas of a model that is asked now. What it takes is told when they end, in whatever way."""
    asked_s, begun, usage = time.monotonic(), False, Usage()
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                if isinstance(delta, Usage):
                    usage = delta
                    continue
                if delta and not begun:
                    begun = True
                    metrics.llm_first_token.labels(engine).observe(time.monotonic() - asked_s)
                yield delta
    finally:
        counts = (max(0, usage.prompt - usage.cached), usage.cached, usage.reply)
        for direction, tokens in zip(DIRECTIONS, counts, strict=True):
            metrics.llm_tokens.labels(engine, direction).inc(tokens)
        describe_usage(work, usage)


def start_at_zero(engine: str) -> None:
    """As `metrics.start_at_zero`, for the counters that name the engine."""
    for direction in DIRECTIONS:
        metrics.llm_tokens.labels(engine, direction)
