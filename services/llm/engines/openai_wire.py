"""Convert messages, tools, tool calls and usage from and to OpenAI's chat protocol. Pure."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from services.llm.engine import Usage
from shared.protocol.session import Message, Tool, ToolCall


class ToolCallAssembler:
    """Assembles tool calls from streamed fragments. A new index or id starts a call: some servers index all calls 0."""

    def __init__(self) -> None:
        self._index, self._id, self._name, self._arguments = 0, "", "", ""

    def feed(self, fragments: Sequence[Any]) -> Iterator[ToolCall]:
        """Yield the calls that these fragments show to be complete."""
        for fragment in fragments:
            index, id_ = getattr(fragment, "index", None) or 0, getattr(fragment, "id", None) or ""
            if index != self._index or (id_ and self._id and id_ != self._id):
                yield from self.finish()
                self._index = index
            self._id = self._id or id_
            function = getattr(fragment, "function", None)
            self._name = self._name or getattr(function, "name", None) or ""
            arguments = getattr(function, "arguments", None) or ""
            self._arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def finish(self) -> Iterator[ToolCall]:
        """Yield the last call at the end of the stream."""
        if self._name:
            yield ToolCall(self._id or f"call_{uuid4().hex}", self._name, self._arguments or "{}")
        self._id, self._name, self._arguments = "", "", ""


def update_usage(usage: Usage, reported: Any) -> None:
    """Take over the counts of a server. Some send them with the last chunk only, others send running totals."""
    usage.prompt = _tokens(reported, "prompt_tokens", usage.prompt)
    usage.reply = _tokens(reported, "completion_tokens", usage.reply)
    cached = _tokens(getattr(reported, "prompt_tokens_details", None), "cached_tokens", usage.cached)
    usage.cached = min(usage.prompt, cached)


def _tokens(reported: Any, name: str, before: int) -> int:
    number = getattr(reported, name, None)
    return number if isinstance(number, int) and number >= 0 else before


def message_object(message: Message) -> dict[str, Any]:
    converted: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.role == "tool":
        converted["tool_call_id"] = message.answers
    if message.calls:
        converted["content"] = message.text or None
        converted["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.calls
        ]
    return converted


def tool_object(tool: Tool) -> dict[str, Any]:
    """Return a tool as the protocol's JSON object. Raises `ValueError` if its parameters are not JSON."""
    try:
        parameters = json.loads(tool.parameters or "{}")
    except ValueError as error:
        raise ValueError(f"the parameters of the tool {tool.name!r} are not valid JSON: {error}") from error
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
