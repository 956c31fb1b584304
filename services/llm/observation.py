"""What metrics, spans and logs record about a reply. They have its texts only where the settings allow it."""

import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict

import structlog

from services.llm.engine import NOTHING_LEFT_OUT, Usage
from shared.observability import metrics
from shared.observability.logs import shows_content
from shared.protocol.session import Message, ToolCall
from shared.protocol.speech import Speech
from shared.worker.work import Work

log = structlog.get_logger()

DIRECTIONS = ("prompt", "cached", "reply")
SHORTENED = ("turns", "results", "refused")


def describe_request(work: Work, messages: Sequence[Message], *, voiced: bool) -> None:
    """Record the request before it goes to the model. `voiced`: the model speaks the reply itself."""
    if not work.trace:
        return
    if voiced:
        work.span.set_attribute("gen_ai.output.type", "speech")
    if shows_content():
        work.span.set_attribute("gen_ai.input.messages", _as_json([(one.role, one.text) for one in messages]))


def describe_reply(work: Work, text: str) -> None:
    if shows_content():
        log.info("replied", text=text)
        if work.trace:
            work.span.set_attribute("gen_ai.output.messages", _as_json([("assistant", text)]))


async def measured(
    work: Work, engine: str, deltas: AsyncGenerator[str | ToolCall | Speech | Usage, None]
) -> AsyncGenerator[str | ToolCall | Speech | Usage, None]:
    """Pass a model's deltas on, and record the metrics.

    The time to first token starts now. The token counts are recorded when the reply completes, fails or is cancelled.
    """
    started_s, first_token_seen, usage = time.monotonic(), False, Usage()
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                if isinstance(delta, Usage):
                    usage = delta
                elif delta and not first_token_seen:
                    first_token_seen = True
                    metrics.llm_first_token.labels(engine).observe(time.monotonic() - started_s)
                yield delta
    finally:
        count_tokens(engine, usage)
        if usage.prompt:
            metrics.llm_prompt.labels(engine).observe(usage.prompt)
        left_out = usage.left_out
        if left_out != NOTHING_LEFT_OUT:
            log.info("conversation shortened", prompt_tokens=usage.prompt, window=usage.window, **asdict(left_out))
        for reason, times in zip(SHORTENED, (left_out.turns, left_out.characters, left_out.refusals), strict=True):
            if times:
                metrics.llm_shortened.labels(engine, reason).inc()
        _describe_usage(work, usage)


def count_tokens(engine: str, usage: Usage) -> None:
    """Count the tokens of a reply or a summary."""
    counts = (max(0, usage.prompt - usage.cached), usage.cached, usage.reply)
    for direction, tokens in zip(DIRECTIONS, counts, strict=True):
        metrics.llm_tokens.labels(engine, direction).inc(tokens)


def start_at_zero(engine: str) -> None:
    """Export this engine's counters as 0 before the first reply: a rate needs a sample before the first increment."""
    for direction in DIRECTIONS:
        metrics.llm_tokens.labels(engine, direction)
    for reason in SHORTENED:
        metrics.llm_shortened.labels(engine, reason)
    for outcome in ("done", "failed"):
        metrics.llm_summaries.labels(engine, outcome)
    metrics.llm_prompt.labels(engine)


def _describe_usage(work: Work, usage: Usage) -> None:
    if not work.trace:
        return
    counts = {"input_tokens": usage.prompt, "cache_read.input_tokens": usage.cached, "output_tokens": usage.reply}
    for name, tokens in counts.items():
        if tokens:
            work.span.set_attribute(f"gen_ai.usage.{name}", tokens)
    left_out = usage.left_out
    window = {
        "window_tokens": usage.window,
        "turns_left_out": left_out.turns,
        "characters_left_out": left_out.characters,
        "refused_for_length": left_out.refusals,
    }
    for name, number in window.items():
        if number:
            work.span.set_attribute(f"parley.prompt.{name}", number)
    if usage.finish_reason:
        work.span.set_attribute("gen_ai.response.finish_reasons", [usage.finish_reason])


def _as_json(messages: Sequence[tuple[str, str]]) -> str:
    """(role, text) pairs in the JSON of OpenTelemetry's semantic conventions for generative AI."""
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages]
    return json.dumps(parts, ensure_ascii=False)
