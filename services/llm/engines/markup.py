"""What a chat model writes, taken apart: words, calls of tools, and what it thinks aloud or marks, which nobody is to hear."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import structlog

from services.llm.engines.chat import schema
from shared.protocol.session import Tool, ToolCall

log = structlog.get_logger()

_USUAL: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": r"(?=<think>\s*\Z)",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "mistral_calls": {
            "open_pattern": r"\s*\[TOOL_CALLS\](?P<name>[\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]",
            "close_pattern": r"(?=\[TOOL_CALLS\])",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"content": "text"},
    },
}
"""For models of which neither their files nor the library say how they write: most do it like this."""
_HARMONY: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|start|>assistant",
    "fields": {
        "reasoning_content": {"open": "<|channel|>analysis<|message|>", "close": "<|end|>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"(?:<\|channel\|>commentary )?to=functions\.(?P<name>[\w.-]+)[^{}]{0,60}?<\|message\|>",
            "close": "<|call|>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {
            "open_pattern": r"<\|channel\|>(?:final|commentary)<\|message\|>",
            "close": ["<|end|>", "<|return|>"],
            "content": "text",
        },
    },
}
_OTHERS = {"gpt_oss": _HARMONY}
_CALLS = ("tool_calls", "mistral_calls")

_TAIL = 64  # tokens of a prompt's end, among which the model's own turn begins
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RuntimeError)  # what bad markup raises in the parser


class Markup:
    """How one model marks what is not to be said; made once, as its patterns take time to compile."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        from transformers.cli.serving.utils import get_response_template
        from transformers.utils.chat_parsing.response_templates import load_response_template

        template = get_response_template(tokenizer, model) or _OTHERS.get(model.config.model_type, _USUAL)
        self.tokenizer = tokenizer
        self.tokens = tokenizer._tokenizer  # noqa: SLF001 - the library's own server takes it so: there is no public way
        self.spec: Any = load_response_template(template)
        marks = " ".join(_strings(template["fields"]))
        self.silent = {
            number
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special and token.content not in marks and re.escape(token.content) not in marks
        }
        """Tokens that are never part of a reply's text."""

    def parser(self, prompt: Sequence[int], tools: Sequence[Tool]) -> Any:
        """One for a new reply; where the prompt has begun it, say by thinking, it knows."""
        from transformers.utils.chat_parsing import ResponseParser

        tail = self.tokenizer.decode(list(prompt[-_TAIL:])) if prompt else ""
        schemas: Any = [schema(tool) for tool in tools]
        try:
            return ResponseParser(
                self.spec, prefix=tail if self.spec.start_anchor_re.search(tail) else "", tools=schemas
            )
        except _BROKEN:
            return ResponseParser(self.spec, prefix="", tools=schemas)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


class ReplyReader:
    """Tokens in, deltas and tool calls out, as they are complete."""

    def __init__(self, markup: Markup, prompt: Sequence[int], prefix: str, tools: Sequence[Tool]) -> None:
        from tokenizers.decoders import DecodeStream

        self._markup, self._tools = markup, tools
        self._parser = markup.parser(prompt, tools)
        self._stream = DecodeStream([], skip_special_tokens=False)
        self._seen = 0
        self._names = {tool.name for tool in tools}
        self._begun = bool(prefix)
        self._held = ""  # of a reply that may be nothing but a call
        if prefix:
            self._feed(prefix)  # said by an earlier attempt

    def take(self, ids: Sequence[int]) -> Iterator[str | ToolCall]:
        """What the tokens that are new among these add."""
        for token in ids[self._seen :]:
            if token not in self._markup.silent and (text := self._stream.step(self._markup.tokens, token)):
                yield from self._read(self._feed(text))
        self._seen = len(ids)

    def finish(self) -> Iterator[str | ToolCall]:
        """What was held back; nothing of a tool call that broke off."""
        try:
            _, events = self._parser.finalize()
        except _BROKEN:
            log.warning("reply broke off in a tool call")
            events = []
        yield from self._read(events)
        if calls := self._bare_calls():
            yield from calls
        elif self._held:
            yield self._held

    def _feed(self, text: str) -> list[dict[str, Any]]:
        try:
            events: list[dict[str, Any]] = self._parser.feed(text)
        except _BROKEN:
            log.warning("model wrote a tool call that cannot be read")
            self._parser = self._markup.parser((), self._tools)
            return []
        return events

    def _read(self, events: Sequence[dict[str, Any]]) -> Iterator[str | ToolCall]:
        for event in events:
            field, kind = event.get("field"), event["type"]
            if field == "content" and kind == "region_chunk" and not event.get("dirty"):
                yield from self._say(event.get("text") or "")
            elif field in _CALLS and kind == "region_close":
                value = event.get("value")
                if call := _call(value.get("function") if isinstance(value, dict) else None):
                    yield call
                else:
                    log.warning("model wrote a tool call that cannot be read")

    def _say(self, text: str) -> Iterator[str]:
        if self._begun:
            yield text
            return
        self._held = (self._held + text).lstrip()
        if self._held and not (self._names and self._held[0] in "{["):
            self._begun = True
            yield self._held
            self._held = ""

    def _bare_calls(self) -> list[ToolCall]:
        """The calls, where the whole reply is JSON that names only tools that there are: so Llama writes them, and so did
        Mistral, after a mark.
        """
        try:
            found = json.loads(self._held.removeprefix("[TOOL_CALLS]"))
        except ValueError:
            return []
        calls = [_call(item) for item in (found if isinstance(found, list) else [found])]
        named = [call for call in calls if call is not None and call.name in self._names]
        return named if len(named) == len(calls) else []


def _call(function: Any) -> ToolCall | None:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments", function.get("parameters"))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {})
    return ToolCall(f"call_{uuid4().hex}", function["name"], arguments)
