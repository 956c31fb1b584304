"""What a chat model of transformers is told, in the words of its own template."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import structlog

from services.llm.engines.context import within
from shared.engines.registry import UnknownEngine
from shared.protocol.session import Message, Tool, ToolCall

log = structlog.get_logger()

BEGINNING = "(The conversation begins.)"
"""Said by the user, for templates in which the user speaks first, where the agent did."""
GO_ON = "(Go on.)"
"""Said by the user, for templates in which a reply follows the user, where it follows the agent."""

_TRIAL = (
    Message("system", "Be brief.", 0),
    Message("assistant", "Good morning.", 0),
    Message("user", "Hello.", 1),
    Message("assistant", "Hello, how", 1),
    Message("system", "Interrupted.", 1),
    Message("user", "One moment.", 2),
    Message("user", "Yes?", 3),
    Message("assistant", "I am here.", 3),
    Message("assistant", "Are you?", 4),
    Message("user", "Stop.", 5),
)
"""What templates refuse, or leave out: a system message in the middle, or any; two in a row; one of the agent first."""
_TRIAL_CALL = (
    Message("user", "Look.", 1),
    Message("assistant", "", 1, calls=(ToolCall("call_1", "lookup", '{"of": "trains"}'),)),
    Message("tool", "Found.", 1, answers="call_1"),
    Message("user", "And?", 2),
)
_TRIAL_TOOL = Tool("lookup", "Looks up.", '{"type": "object", "properties": {"of": {"type": "string"}}}')


class ChatFormat:
    """The template of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises `UnknownEngine` if it has no chat template, or one that takes no conversation."""
        from jinja2 import TemplateError

        self._refusals = (TemplateError, ValueError, TypeError, LookupError, AttributeError)
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise UnknownEngine("the model has no chat template: it is no chat model (look for one called Instruct)")
        if not getattr(tokenizer, "is_fast", False):
            raise UnknownEngine("the model's tokenizer is not one of the fast ones (it has no tokenizer.json)")
        self._controls = _controls(tokenizer)
        self._folds = 0
        found = next((folds for folds in (0, 1, 2) if self._takes(_TRIAL, (), folds)), None)
        if found is None:
            raise UnknownEngine("the model's chat template takes no conversation of system, user and assistant")
        self._folds = found
        self._calls = self._takes(_TRIAL_CALL, (_TRIAL_TOOL,), found)
        self._said_so = False

    def _takes(self, messages: Sequence[Message], tools: Sequence[Tool], folds: int) -> bool:
        """Whether the template refuses none of this, and leaves nothing of it out."""
        told = [message.text for message in messages] + [tool.description for tool in tools]
        told += [part for message in messages for call in message.calls for part in (call.name, "trains")]
        try:
            text = self._render(messages, tools, folds)
        except self._refusals:
            return False
        return all(part in text for part in told)

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool], folds: int) -> str:
        # The models that can think aloud are asked not to: nobody on a line waits for that.
        rendered: str = self._tokenizer.apply_chat_template(
            [self._plain(message) for message in folded(messages, folds)],
            tools=[self._tame(schema(tool)) for tool in tools] or None,
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
        )
        return rendered

    def _text(self, messages: Sequence[Message], tools: Sequence[Tool]) -> str:
        try:
            if self._calls or not (tools or any(message.calls for message in messages)):
                return self._render(messages, tools, self._folds)
            if tools and not self._said_so:
                log.warning("the model's chat template has no place for tools: it is not told of them")
                self._said_so = True
        except self._refusals as error:
            # Some take a call only in a certain place, or one at a time.
            log.info("chat template refuses calls of tools as they are", reason=str(error))
        try:
            return self._render(written(messages), tools if self._calls else (), max(self._folds, 1))
        except self._refusals as error:
            raise ValueError(f"the model's chat template refuses the conversation: {error}") from error

    def encode(
        self, messages: Sequence[Message], tools: Sequence[Tool], prefix: str, limit: int
    ) -> tuple[list[int], list[int]]:
        """The tokens of the conversation, the oldest turns left out where it is too long; and those of `prefix`, which follow.

        Raises:
            ValueError: not even the last turn fits into `limit` tokens, or the template refuses the conversation.
        """

        def ids(some: Sequence[Message]) -> list[int]:
            return self._ids(self._text(some, tools))

        messages = messages or [Message("user", BEGINNING, 0)]
        added = self._ids(self._tame(prefix)) if prefix else []
        room = limit - len(added)
        prompt = ids(messages)
        if len(prompt) > room:
            kept, left_out = within(messages, room, lambda some: len(ids(some)))
            prompt = ids(kept)
            log.info("conversation shortened", turns=left_out, tokens=len(prompt))
        return prompt, added

    def ends(self) -> list[int]:
        """The token, if it is one, with which the template closes what the assistant said."""
        told = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Bye now."}]
        try:
            text: str = self._tokenizer.apply_chat_template(told, tokenize=False, enable_thinking=False)
        except self._refusals:
            return []
        ids = self._ids(text.rpartition("Bye now.")[2])
        special = {number for number, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        return ids[:1] if ids and ids[0] in special else []

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _plain(self, message: Message) -> dict[str, Any]:
        """A message as chat templates take it."""
        told: dict[str, Any] = {"role": message.role, "content": self._tame(message.text)}
        if message.calls:
            told["tool_calls"] = [
                {
                    "id": _call_id(call.id),
                    "type": "function",
                    "function": {"name": self._tame(call.name), "arguments": self._tame(_parsed(call.arguments))},
                }
                for call in message.calls
            ]
        if message.role == "tool":
            told["tool_call_id"] = _call_id(message.answers)
        return told

    def _tame(self, value: Any) -> Any:
        """What others wrote, in which the model's control tokens are only text: nobody gives orders by typing `<|im_end|>`."""
        if isinstance(value, str):
            return self._controls.sub(r"\1 ", value)
        if isinstance(value, list):
            return [self._tame(item) for item in value]
        if isinstance(value, dict):
            return {self._tame(key): self._tame(item) for key, item in value.items()}
        return value


def _controls(tokenizer: Any) -> re.Pattern[str]:
    """The first letter of each control token."""
    added = tokenizer.added_tokens_decoder.values()
    # Those that are not special are often mere words or blanks, but for what stands in brackets: <think>, <tool_call>.
    names = {token.content for token in added if token.special or token.content.startswith("<")}
    names |= set(tokenizer.all_special_tokens)
    rest: dict[str, list[str]] = {}  # by the first letter: some tokenizers have thousands
    for name in names:
        if len(name.strip()) > 1:
            rest.setdefault(re.escape(name[0]), []).append(re.escape(name[1:]))
    found = [f"{first}(?:{'|'.join(others)})" for first, others in rest.items()]
    return re.compile(f"(?={'|'.join(found)})(.)" if found else r"(?!)(.)", re.DOTALL)


def folded(messages: Sequence[Message], folds: int) -> list[Message]:
    """For templates that refuse: user and assistant take turns, and the user says what the system says.

    With 1, but for the instructions in front; with 2, these too.
    """
    if not folds:
        return list(messages)
    told: list[Message] = []
    notes: list[str] = []

    def user(text: str, turn: int) -> None:
        said = "\n".join([*notes, text] if text else notes)
        notes.clear()
        if told and told[-1].role == "user":
            said = f"{told.pop().text}\n{said}"
        elif told and told[-1].role == "tool":
            told.append(Message("assistant", "…", turn))
        told.append(Message("user", said, turn))

    for message in messages:
        before = told[-1].role if told else "system"
        if message.role == "system" and (told or folds > 1):
            notes.append(message.text)
        elif message.role == "user":
            user(message.text, message.turn)
        elif message.role == "assistant" and before == "assistant" and not told[-1].calls:
            text = f"{told.pop().text} {message.text}".strip()
            told.append(replace(message, text=text))
        else:
            if message.role == "assistant" and before == "system":
                user("" if notes else BEGINNING, message.turn)
            told.append(message)
    if notes or not told or told[-1].role not in ("user", "tool"):
        opened = any(message.role == "assistant" for message in told)
        user("" if notes else (GO_ON if opened else BEGINNING), messages[-1].turn if messages else 0)
    return told


def written(messages: Sequence[Message]) -> list[Message]:
    """For templates without calls of tools: what came of them is told by the system."""
    names = {call.id: call.name for message in messages for call in message.calls}
    told: list[Message] = []
    for message in messages:
        if message.role == "tool":
            name = names.get(message.answers, "a tool")
            told.append(Message("system", f"(Result of {name}: {message.text})", message.turn))
        elif message.text or not message.calls:
            told.append(replace(message, calls=()))
    return told


def schema(tool: Tool) -> dict[str, Any]:
    """A tool as chat templates and parsers take it."""
    function = {"name": tool.name, "description": tool.description, "parameters": _parsed(tool.parameters or "{}")}
    return {"type": "function", "function": function}


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _call_id(name: str) -> str:
    """Nine digits: Mistral's templates refuse others."""
    return f"{crc32(name.encode()) % 10**9:09}"
