"""Render a conversation with a model's chat template: that of a transformers tokenizer, or one with its interface."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import structlog

from services.llm.context.window import fit
from services.llm.engine import Shortening
from shared.engines.registry import UnknownEngine
from shared.protocol.session import Message, Tool, ToolCall

log = structlog.get_logger()

BEGINNING = "(The conversation begins.)"
"""User message for templates that must start with the user, if the agent spoke first."""
CONTINUE = "(Go on.)"
"""User message for templates that only reply to the user, if the agent spoke last."""

MERGING = (0, 1, 2)
"""How much of a conversation `merged` changes; see there."""

_SAMPLE = (
    Message("system", "Be brief.", 0),
    Message("assistant", "Good morning.", 0),
    Message("user", "Hello.", 1),
    Message("assistant", "Hello, how", 1),
    Message("system", "The line is bad.", 1),
    Message("user", "One moment.", 2),
    Message("user", "Yes?", 3),
    Message("assistant", "I am here.", 3),
    Message("assistant", "Are you?", 4),
    Message("user", "Stop.", 5),
)
"""All that some templates reject or drop: system messages later on or at all, repeated roles, the agent first."""
_SAMPLE_CALL = (
    Message("user", "Look.", 1),
    Message("assistant", "", 1, calls=(ToolCall("call_1", "lookup", '{"of": "trains"}'),)),
    Message("tool", "Found.", 1, answers="call_1"),
    Message("user", "And?", 2),
)
_SAMPLE_TOOL = Tool("lookup", "Looks up.", '{"type": "object", "properties": {"of": {"type": "string"}}}')


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation in the form that the chat template accepts."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    text: str
    """What the template makes of the two: the prompt, up to the beginning of the reply."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that fits into the model's window."""

    rendered: Rendered
    ids: list[int]
    """The tokens of its text."""
    left_out: Shortening


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Try the template on sample conversations, to find out what it accepts.

        Raises:
            UnknownEngine: the tokenizer has no chat template, or a template that rejects every conversation.
        """
        self._refusals: tuple[type[Exception], ...] = (
            *_template_errors(),
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
        )
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise UnknownEngine(
                "the model has no chat template, so it is not a chat model (look for one with Instruct in its name)"
            )
        if not getattr(tokenizer, "is_fast", False):
            raise UnknownEngine("the model's tokenizer is not a fast tokenizer (it has no tokenizer.json)")
        self._controls = controls(tokenizer)
        found = next((merging for merging in MERGING if self._accepts(_SAMPLE, (), merging)), None)
        if found is None:
            raise UnknownEngine("the model's chat template accepts no conversation of system, user and assistant")
        self._merging = found
        self._supports_tools = self._accepts(_SAMPLE_CALL, (_SAMPLE_TOOL,), found)
        self._warned_of_tools = False

    def _accepts(self, messages: Sequence[Message], tools: Sequence[Tool], merging: int) -> bool:
        """Whether the template renders all of this without an error, and drops no part of it."""
        parts = [message.text for message in messages] + [tool.description for tool in tools]
        parts += [part for message in messages for call in message.calls for part in (call.name, "trains")]
        try:
            text = self._render(messages, tools, merging).text
        except self._refusals:
            return False
        return all(part in text for part in parts)

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool], merging: int) -> Rendered:
        plain = [self._plain(message) for message in merged(messages, merging)]
        schemas = [self.escaped(schema(tool)) for tool in tools]
        # Reasoning models are asked not to reason: it would delay the first word.
        text: str = self._tokenizer.apply_chat_template(
            plain, tools=schemas or None, add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
        return Rendered(plain, schemas, text)

    def _accepted(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Rendered:
        try:
            if self._supports_tools or not (tools or any(message.calls for message in messages)):
                return self._render(messages, tools, self._merging)
            if tools and not self._warned_of_tools:
                log.warning("tools ignored: the model's chat template does not support them")
                self._warned_of_tools = True
        except self._refusals as error:
            # Some templates accept a call only at certain positions, or only one at a time.
            log.info("chat template rejected the tool calls", reason=str(error))
        try:
            return self._render(without_calls(messages), tools if self._supports_tools else (), max(self._merging, 1))
        except self._refusals as error:
            raise ValueError(f"the model's chat template rejects the conversation: {error}") from error

    def fit(self, messages: Sequence[Message], tools: Sequence[Tool], limit: int) -> Prompt:
        """Return the prompt for a conversation, without its oldest turns if it does not fit into `limit` tokens.

        Raises:
            PromptTooLong: not even the last turn fits.
            ValueError: the template rejects the conversation.
        """
        rendered, ids = Rendered([], [], ""), []

        def count(part: Sequence[Message]) -> int:
            nonlocal rendered, ids
            rendered = self._accepted(part, tools)
            ids = self.ids(rendered.text)
            return len(ids)

        fitted = fit(messages or [Message("user", BEGINNING, 0)], limit, count)
        return Prompt(rendered, ids, fitted.left_out)

    def end_ids(self) -> list[int]:
        """Return the token with which the template ends an assistant message; empty if that is not a special token."""
        sample = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Bye now."}]
        try:
            text: str = self._tokenizer.apply_chat_template(sample, tokenize=False, enable_thinking=False)
        except self._refusals:
            return []
        ids = self.ids(text.rpartition("Bye now.")[2])
        special = {number for number, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        return ids[:1] if ids and ids[0] in special else []

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text's tokens. Control tokens in it count as such."""
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _plain(self, message: Message) -> dict[str, Any]:
        """Return a message as chat templates expect it."""
        plain: dict[str, Any] = {"role": message.role, "content": self.escaped(message.text)}
        if message.calls:
            plain["tool_calls"] = [
                {
                    "id": _call_id(call.id),
                    "type": "function",
                    "function": {"name": self.escaped(call.name), "arguments": self.escaped(_parsed(call.arguments))},
                }
                for call in message.calls
            ]
        if message.role == "tool":
            plain["tool_call_id"] = _call_id(message.answers)
        return plain

    def escaped(self, value: Any) -> Any:
        """Break up control tokens in untrusted text: typing `<|im_end|>` must not start a forged system message."""
        if isinstance(value, str):
            return self._controls.sub(r"\1 ", value)
        if isinstance(value, list):
            return [self.escaped(item) for item in value]
        if isinstance(value, dict):
            return {self.escaped(key): self.escaped(item) for key, item in value.items()}
        return value


def _template_errors() -> tuple[type[Exception], ...]:
    """Return what a template raises. Without jinja2, the tokenizer renders in another way and raises `ValueError`."""
    try:
        from jinja2 import TemplateError
    except ImportError:
        return ()
    return (TemplateError,)


def controls(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern that matches the first character of every control token."""
    added = tokenizer.added_tokens_decoder.values()
    # Added tokens that are not special are often plain words or spaces, except those in brackets: <think>, <tool_call>.
    names = {token.content for token in added if token.special or token.content.startswith("<")}
    names |= set(tokenizer.all_special_tokens)
    rest: dict[str, list[str]] = {}  # grouped by first character: some tokenizers have thousands
    for name in names:
        if len(name.strip()) > 1:
            rest.setdefault(re.escape(name[0]), []).append(re.escape(name[1:]))
    found = [f"{first}(?:{'|'.join(others)})" for first, others in rest.items()]
    return re.compile(f"(?={'|'.join(found)})(.)" if found else r"(?!)(.)", re.DOTALL)


def merged(messages: Sequence[Message], merging: int) -> list[Message]:
    """Adapt a conversation to a template that rejects it.

    Args:
        messages: The conversation. merging: 0: no change. 1: user and assistant alternate, and system messages become
        part of user messages, except the
            instructions at the start. 2: the instructions, too.
    """
    if not merging:
        return list(messages)
    result: list[Message] = []
    notes: list[str] = []

    def user(text: str, turn: int) -> None:
        combined = "\n".join([*notes, text] if text else notes)
        notes.clear()
        if result and result[-1].role == "user":
            combined = f"{result.pop().text}\n{combined}"
        elif result and result[-1].role == "tool":
            result.append(Message("assistant", "…", turn))
        result.append(Message("user", combined, turn))

    for message in messages:
        before = result[-1].role if result else "system"
        if message.role == "system" and (result or merging > 1):
            notes.append(message.text)
        elif message.role == "user":
            user(message.text, message.turn)
        elif message.role == "assistant" and before == "assistant" and not result[-1].calls:
            text = f"{result.pop().text} {message.text}".strip()
            result.append(replace(message, text=text))
        else:
            if message.role == "assistant" and before == "system":
                user("" if notes else BEGINNING, message.turn)
            result.append(message)
    if notes or not result or result[-1].role not in ("user", "tool"):
        opened = any(message.role == "assistant" for message in result)
        user("" if notes else (CONTINUE if opened else BEGINNING), messages[-1].turn if messages else 0)
    return result


def without_calls(messages: Sequence[Message]) -> list[Message]:
    """Adapt a conversation to a template without tools: drop the calls, and give their results as system messages."""
    names = {call.id: call.name for message in messages for call in message.calls}
    result: list[Message] = []
    for message in messages:
        if message.role == "tool":
            name = names.get(message.answers, "a tool")
            result.append(Message("system", f"(Result of {name}: {message.text})", message.turn))
        elif message.text or not message.calls:
            result.append(replace(message, calls=()))
    return result


def schema(tool: Tool) -> dict[str, Any]:
    """Return a tool as chat templates and response parsers expect it."""
    function = {"name": tool.name, "description": tool.description, "parameters": _parsed(tool.parameters or "{}")}
    return {"type": "function", "function": function}


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _call_id(name: str) -> str:
    """Return nine digits: Mistral's templates reject other ids."""
    return f"{crc32(name.encode()) % 10**9:09}"
