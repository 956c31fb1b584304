"""Parse the generated tokens of a chat model into text and tool calls, without reasoning and control tokens."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import structlog

from services.llm.engines.chat_template import schema
from shared.protocol.session import Tool, ToolCall

log = structlog.get_logger()

_DEFAULT: dict[str, Any] = {
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
"""The format of most models, for those whose format is neither in their files nor known to the library."""
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
_BY_MODEL_TYPE = {"gpt_oss": _HARMONY}
_CALL_FIELDS = ("tool_calls", "mistral_calls")

_TAIL = 64  # tokens at the end of a prompt that contain the start of the model's turn
_PARSE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, RuntimeError)  # raised by the library's parser


class ResponseFormat:
    """How a model marks reasoning and tool calls. Created once: compiling its patterns takes time."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        from transformers.cli.serving.utils import get_response_template
        from transformers.utils.chat_parsing.response_templates import load_response_template

        template = get_response_template(tokenizer, model) or _BY_MODEL_TYPE.get(model.config.model_type, _DEFAULT)
        self.tokenizer = tokenizer
        self.tokens = tokenizer._tokenizer  # noqa: SLF001 - not public, but the library's own server uses it, too
        self.spec: Any = load_response_template(template)
        markers = " ".join(_strings(template["fields"]))
        self.silent = {
            number
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special and token.content not in markers and re.escape(token.content) not in markers
        }
        """Ids of special tokens that are never part of a reply."""

    def parser(self, prompt: Sequence[int], tools: Sequence[Tool]) -> Any:
        """Create a parser for a new reply. The prompt tells it if the reply starts inside reasoning."""
        from transformers.utils.chat_parsing import ResponseParser

        tail = self.tokenizer.decode(list(prompt[-_TAIL:])) if prompt else ""
        schemas: Any = [schema(tool) for tool in tools]
        try:
            return ResponseParser(
                self.spec, prefix=tail if self.spec.start_anchor_re.search(tail) else "", tools=schemas
            )
        except _PARSE_ERRORS:
            return ResponseParser(self.spec, prefix="", tools=schemas)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


class ReplyParser:
    """Parses the tokens of one reply into deltas and complete tool calls."""

    def __init__(
        self, response_format: ResponseFormat, prompt: Sequence[int], prefix: str, tools: Sequence[Tool]
    ) -> None:
        from tokenizers.decoders import DecodeStream

        self._format, self._tools = response_format, tools
        self._parser = response_format.parser(prompt, tools)
        self._stream = DecodeStream([], skip_special_tokens=False)
        self._seen = 0
        self._names = {tool.name for tool in tools}
        self._begun = bool(prefix)
        self._buffer = ""  # the start of a reply that may consist of tool calls only
        if prefix:
            self._feed(prefix)  # published by an earlier attempt, so the events are dropped

    def take(self, ids: Sequence[int]) -> Iterator[str | ToolCall]:
        """Parse the new tokens in `ids`, which are all tokens of the reply so far."""
        for token in ids[self._seen :]:
            if token not in self._format.silent and (text := self._stream.step(self._format.tokens, token)):
                yield from self._read(self._feed(text))
        self._seen = len(ids)

    def finish(self) -> Iterator[str | ToolCall]:
        """Yield what is still buffered at the end of the reply. An incomplete tool call is dropped."""
        try:
            _, events = self._parser.finalize()
        except _PARSE_ERRORS:
            log.warning("reply ended inside a tool call")
            events = []
        yield from self._read(events)
        if calls := self._bare_calls():
            yield from calls
        elif self._buffer:
            yield self._buffer

    def _feed(self, text: str) -> list[dict[str, Any]]:
        try:
            events: list[dict[str, Any]] = self._parser.feed(text)
        except _PARSE_ERRORS:
            log.warning("tool call could not be parsed")
            self._parser = self._format.parser((), self._tools)
            return []
        return events

    def _read(self, events: Sequence[dict[str, Any]]) -> Iterator[str | ToolCall]:
        for event in events:
            field, kind = event.get("field"), event["type"]
            if field == "content" and kind == "region_chunk" and not event.get("dirty"):
                yield from self._text(event.get("text") or "")
            elif field in _CALL_FIELDS and kind == "region_close":
                value = event.get("value")
                if call := _call(value.get("function") if isinstance(value, dict) else None):
                    yield call
                else:
                    log.warning("tool call could not be parsed")

    def _text(self, text: str) -> Iterator[str]:
        if self._begun:
            yield text
            return
        self._buffer = (self._buffer + text).lstrip()
        if self._buffer and not (self._names and self._buffer[0] in "{["):
            self._begun = True
            yield self._buffer
            self._buffer = ""

    def _bare_calls(self) -> list[ToolCall]:
        """Return the calls of a reply that is only JSON and names only known tools. Llama writes calls like this, and
        older Mistral models do after a marker.
        """
        try:
            found = json.loads(self._buffer.removeprefix("[TOOL_CALLS]"))
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
