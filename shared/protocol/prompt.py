"""The prompt of a chat model, and its hash, which tells whether a speculative reply is still valid. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import msgpack

from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool, with_instructions

UNANSWERED = "(No result yet.)"
"""Stands for the missing result of a tool call: chat models reject a call without a result."""
NO_TOOLS = "none"
"""The `tool_choice` that offers the model no tools."""
EXAMPLE_TURN = -1
"""The turn of the agent's examples, which are in every prompt."""
SOUND = "(sound)"
"""Stands in the prompt hash for the person's words if the model takes the audio itself."""


def prompt(
    settings: SessionSettings, options: ReplyOptions, history: Sequence[Message], turn: int, text: str
) -> list[Message]:
    """Return the model's input: instructions and examples, the history before this turn, and this turn's text, if any.

    An interrupted reply ends where the person stopped hearing it, without a remark: small models lose their instructions after
    one (DESIGN.md, decision 101).
    """
    if options.instructions is not None:
        settings = with_instructions(settings, options.instructions)
    messages = [Message("system", settings.instructions, 0)] if settings.instructions else []
    for example in settings.examples:
        messages += [Message("user", example.person, EXAMPLE_TURN), Message("assistant", example.agent, EXAMPLE_TURN)]
    messages += _with_results([message for message in history if message.turn < turn])
    if text:
        messages.append(Message("user", text, turn))
    return messages


def _with_results(history: Sequence[Message]) -> list[Message]:
    """Put the result of each tool call directly after it, whenever it came. Results without a call are left out."""
    results = {message.answers: message for message in history if message.role == "tool"}
    ordered: list[Message] = []
    for message in _with_calls_merged(history):
        if message.text or message.calls:
            ordered.append(message)
        ordered += [
            results.get(call.id) or Message("tool", UNANSWERED, message.turn, answers=call.id) for call in message.calls
        ]
    return ordered


def _with_calls_merged(history: Sequence[Message]) -> list[Message]:
    """Merge a message of calls into the previous message of the same reply; drop the tool messages."""
    merged: list[Message] = []
    new_reply = True
    for message in history:
        if message.role == "tool":
            new_reply = True
        elif not new_reply and message.calls and not message.text and merged[-1].turn == message.turn:
            merged[-1] = replace(merged[-1], calls=merged[-1].calls + message.calls)
        else:
            merged.append(message)
            new_reply = message.role != "assistant"
    return merged


def offered(settings: SessionSettings, options: ReplyOptions) -> tuple[Tool, ...]:
    """Return the tools that the model may call in this reply."""
    return () if _choice(settings, options) == NO_TOOLS else options.tools or settings.tools


def prompt_hash(settings: SessionSettings, options: ReplyOptions, messages: Sequence[Message]) -> int:
    """Return a CRC-32 of everything that the reply depends on: the messages, the tools and the voice."""
    spoken = settings.spoken if options.spoken is None else options.spoken
    said = [(message.role, message.text, message.answers, *_calls(message)) for message in messages]
    tools = [(tool.name, tool.description, tool.parameters) for tool in offered(settings, options)]
    voiced = (spoken, settings.voice, settings.speed, settings.language, options.say)
    packed: bytes = msgpack.packb((said, tools, _choice(settings, options), *voiced))
    return crc32(packed)


def _choice(settings: SessionSettings, options: ReplyOptions) -> str:
    return settings.tool_choice if options.tool_choice is None else options.tool_choice


def _calls(message: Message) -> list[str]:
    return [part for call in message.calls for part in (call.id, call.name, call.arguments)]
