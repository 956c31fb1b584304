"""Metrics and trace attributes of one reply: time to first token and token counts."""

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


async def measured(
    work: Work, engine: str, deltas: AsyncGenerator[str | ToolCall | Speech | Usage, None]
) -> AsyncGenerator[str | ToolCall | Speech, None]:
    """Pass a model's deltas on without `Usage`, and record the metrics.

    The time to first token starts now. The token counts are recorded when the reply completes, fails or is cancelled.
    """
    started_s, first_token_seen, usage = time.monotonic(), False, Usage()
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                if isinstance(delta, Usage):
                    usage = delta
                    continue
                if delta and not first_token_seen:
                    first_token_seen = True
                    metrics.llm_first_token.labels(engine).observe(time.monotonic() - started_s)
                yield delta
    finally:
        counts = (max(0, usage.prompt - usage.cached), usage.cached, usage.reply)
        for direction, tokens in zip(DIRECTIONS, counts, strict=True):
            metrics.llm_tokens.labels(engine, direction).inc(tokens)
        describe_usage(work, usage)


def start_at_zero(engine: str) -> None:
    """Export this engine's counters as 0 before the first reply: a rate needs a sample before the first increment."""
    for direction in DIRECTIONS:
        metrics.llm_tokens.labels(engine, direction)
