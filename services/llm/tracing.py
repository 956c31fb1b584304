"""What spans and logs record about a reply. The texts are recorded only where the settings allow it."""

import json
from collections.abc import Sequence

import structlog

from services.llm.engine import Usage
from shared.observability.logs import shows_content
from shared.protocol.session import Message
from shared.worker.work import Work

log = structlog.get_logger()


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


def describe_usage(work: Work, usage: Usage) -> None:
    """Record the token counts when the reply has completed, failed or been cancelled."""
    if not work.trace:
        return
    counts = {"input_tokens": usage.prompt, "cache_read.input_tokens": usage.cached, "output_tokens": usage.reply}
    for name, tokens in counts.items():
        if tokens:
            work.span.set_attribute(f"gen_ai.usage.{name}", tokens)
    if usage.finish_reason:
        work.span.set_attribute("gen_ai.response.finish_reasons", [usage.finish_reason])


def _as_json(messages: Sequence[tuple[str, str]]) -> str:
    """(role, text) pairs in the JSON of OpenTelemetry's semantic conventions for generative AI."""
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages]
    return json.dumps(parts, ensure_ascii=False)
