"""What a chat model is told, in the words of its own template, and what it answers, taken apart. For one model of transformers."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from services.llm.context import within
from shared.engines import UnknownEngine
from shared.session import Message, Tool, ToolCall

log = structlog.get_logger()

_TRIAL = (
    Message("system", "Be brief.", 0),
    Message("user", "Hello.", 1),
    Message("assistant", "Hello, how", 1),
    Message("system", "(Interrupted.)", 1),
    Message("user", "Stop.", 2),
)
"""What templates refuse: a system message in the middle, or any."""


class ChatFormat:
    """The template of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises `UnknownEngine` if it has no chat template."""
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise UnknownEngine("the model has no chat template: it is no chat model (look for one called Instruct)")
        self._folds = next((folds for folds in (0, 1, 2) if self._takes(folds)), None)
        if self._folds is None:
            raise UnknownEngine("the model's chat template takes no conversation of system, user and assistant")

    def _takes(self, folds: int) -> bool:
        from jinja2 import TemplateError

        try:
            self._render(_TRIAL, (), folds)
        except TemplateError:
            return False
        return True

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool], folds: int | None) -> str:
        told = [_plain(message) for message in folded(messages, folds or 0)]
        # The models that can think aloud are asked not to: nobody on a line waits for that.
        rendered: str = self._tokenizer.apply_chat_template(
            told,
            tools=[_schema(tool) for tool in tools] or None,
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
        )
        return rendered

    def encode(
        self, messages: Sequence[Message], tools: Sequence[Tool], prefix: str, limit: int
    ) -> tuple[list[int], list[int]]:
        """The tokens of the conversation, the oldest turns left out where it is too long; and those with `prefix` after them.

        Raises:
            ValueError: not even the last turn fits into `limit` tokens.
        """
        ids: list[int] = []

        def count(some: Sequence[Message]) -> int:
            nonlocal ids
            text = self._render(some, tools, self._folds)
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            return len(ids)

        added = self._tokenizer(prefix, add_special_tokens=False)["input_ids"] if prefix else []
        _, left_out = within(messages, limit - len(added), count)
        if left_out:
            log.info("conversation shortened", turns=left_out, tokens=len(ids))
        return ids, [*ids, *added]


def folded(messages: Sequence[Message], folds: int) -> list[Message]:
    """For templates that refuse: with 1, system messages after the first go into the next of the user; with 2, all of them."""
    if not folds:
        return list(messages)
    told: list[Message] = []
    notes: list[str] = []
    for message in messages:
        if message.role == "system" and (told or folds > 1):
            notes.append(message.text)
            continue
        if message.role == "user":
            text = "\n".join([*notes, message.text])
            notes = []
            if told and told[-1].role == "user":
                text = f"{told.pop().text}\n{text}"
            told.append(Message("user", text, message.turn))
        else:
            told.append(message)
    if notes:
        told.append(Message("user", "\n".join(notes), messages[-1].turn))
    return told


def _plain(message: Message) -> dict[str, Any]:
    """A message as chat templates take it."""
    told: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _parsed(call.arguments)}}
            for call in message.calls
        ]
    if message.role == "tool":
        told["tool_call_id"] = message.answers
    return told


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _schema(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": _parsed(tool.parameters or "{}")}
    return {"type": "function", "function": function}


class ReplyReader:
    """Tokens in, deltas and tool calls out, as they are complete; what a model thinks aloud is left out."""

    def __init__(self, tokenizer: Any, model: Any, prompt: Sequence[int], prefix: str, tools: Sequence[Tool]) -> None:
        from tokenizers.decoders import DecodeStream
        from transformers.cli.serving import utils

        self._utils: Any = utils
        schemas = [_schema(tool) for tool in tools] or None
        self._parser = self._utils.build_response_parser(tokenizer, model, list(prompt), tools=schemas)
        self._tokens = tokenizer._tokenizer  # noqa: SLF001 - the library's own server takes it so: there is no public way
        self._stream = DecodeStream([], skip_special_tokens=self._parser is None)
        self._seen = self._calls = 0
        if self._parser is not None and prefix:
            self._parser.feed(prefix)  # said by an earlier attempt

    def take(self, ids: Sequence[int]) -> Iterator[str | ToolCall]:
        """What the tokens that are new among these add."""
        for token in ids[self._seen :]:
            text = self._stream.step(self._tokens, token)
            if text and self._parser is None:
                yield text
            elif text:
                yield from self._read(self._parser.feed(text))
        self._seen = len(ids)

    def finish(self) -> Iterator[str | ToolCall]:
        """What was held back; nothing of a tool call that broke off."""
        if self._parser is not None:
            try:
                _, events = self._parser.finalize()
            except (ValueError, RuntimeError):
                log.warning("reply broke off in a tool call")
                return
            yield from self._read(events)

    def _read(self, events: Any) -> Iterator[str | ToolCall]:
        for item in self._utils.response_events_to_chunks(events):
            if isinstance(item, self._utils.ToolCall):
                self._calls += 1
                yield ToolCall(f"call_{self._calls}", item.name, item.arguments)
            elif not isinstance(item, self._utils.ReasoningText):
                yield str(item)
