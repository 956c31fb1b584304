"""How a conversation, tools, their calls and the usage look in OpenAI's chat protocol. Pure."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from services.llm.engine import Usage
from shared.protocol.session import Message, Tool, ToolCall


class Calls:
    """Gathers the fragments of calls of tools. Some servers number all calls 0: there a new id is a new call."""

    def __init__(self) -> None:
        self._index, self._id, self._name, self._arguments = 0, "", "", ""

    def feed(self, fragments: Sequence[Any]) -> Iterator[ToolCall]:
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
        if self._name:
            yield ToolCall(self._id or f"call_{uuid4().hex}", self._name, self._arguments or "{}")
        self._id, self._name, self._arguments = "", "", ""


def note_usage(usage: Usage, told: Any) -> None:
    """What a server says of it: once, with the last chunk, or with each chunk the sum so far."""
    usage.prompt = _tokens(told, "prompt_tokens", usage.prompt)
    usage.reply = _tokens(told, "completion_tokens", usage.reply)
    cached = _tokens(getattr(told, "prompt_tokens_details", None), "cached_tokens", usage.cached)
    usage.cached = min(usage.prompt, cached)


def _tokens(told: Any, name: str, before: int) -> int:
    number = getattr(told, name, None)
    return number if isinstance(number, int) and number >= 0 else before


def message_form(message: Message) -> dict[str, Any]:
    """One message of a conversation."""
    told: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.role == "tool":
        told["tool_call_id"] = message.answers
    if message.calls:
        told["content"] = message.text or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.calls
        ]
    return told


def tool_form(tool: Tool) -> dict[str, Any]:
    """One tool that the model may ask for. Raises `ValueError` if its parameters are no JSON."""
    try:
        parameters = json.loads(tool.parameters or "{}")
    except ValueError as error:
        raise ValueError(f"parameters of the tool {tool.name!r} are no JSON: {error}") from error
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
