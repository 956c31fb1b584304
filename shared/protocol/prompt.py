"""What a chat model is told, and a checksum of it by which a reply made early is known to be still the right one. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import msgpack

from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool

INTERRUPTED = "(The person interrupted you here and heard nothing beyond this.)"
"""Said by the system, not put into the model's own words: a model writes on as it believes to have written."""
UNANSWERED = "(No result yet.)"
"""Stands for the answer to a call while there is none: chat models take no call without one."""
NO_TOOLS = "none"
"""The `tool_choice` with which a model is told of no tools."""


SOUND = "(sound)"
"""Stands, in the checksum, for what the person said where a model hears it itself."""


def prompt(
    settings: SessionSettings, options: ReplyOptions, history: Sequence[Message], turn: int, text: str
) -> list[Message]:
    """The conversation as the model gets it: instructions, what was said and heard before this turn, this turn."""
    instructions = settings.instructions if options.instructions is None else options.instructions
    messages = [Message("system", instructions, 0)] if instructions else []
    messages += _told([message for message in history if message.turn < turn])
    if text:
        messages.append(Message("user", text, turn))
    return messages


def _told(history: Sequence[Message]) -> list[Message]:
    """What was said, each call of a tool together with its answer, whenever that came; an answer to no call is left out."""
    answers = {message.answers: message for message in history if message.role == "tool"}
    told: list[Message] = []
    for message in _joined(history):
        if message.text or message.calls:
            told.append(message)
        told += [
            answers.get(call.id) or Message("tool", UNANSWERED, message.turn, answers=call.id) for call in message.calls
        ]
        if message.interrupted:
            told.append(Message("system", INTERRUPTED, message.turn))
    return told


def _joined(history: Sequence[Message]) -> list[Message]:
    """All but the answers; calls belong to the message before them, which is of the same reply."""
    joined: list[Message] = []
    begins = True
    for message in history:
        if message.role == "tool":
            begins = True
        elif not begins and message.calls and not message.text and joined[-1].turn == message.turn:
            joined[-1] = replace(joined[-1], calls=joined[-1].calls + message.calls)
        else:
            joined.append(message)
            begins = message.role != "assistant"
    return joined


def offered(settings: SessionSettings, options: ReplyOptions) -> tuple[Tool, ...]:
    """The tools that the model may ask for in this reply."""
    return () if _choice(settings, options) == NO_TOOLS else options.tools or settings.tools


def prompt_hash(settings: SessionSettings, options: ReplyOptions, messages: Sequence[Message]) -> int:
    """Checksum of all that a reply depends on: the messages, the tools, and how it is to be spoken."""
    spoken = settings.spoken if options.spoken is None else options.spoken
    told = [(message.role, message.text, message.answers, *_calls(message)) for message in messages]
    tools = [(tool.name, tool.description, tool.parameters) for tool in offered(settings, options)]
    voiced = (spoken, settings.voice, settings.speed, settings.language, options.say)
    packed: bytes = msgpack.packb((told, tools, _choice(settings, options), *voiced))
    return crc32(packed)


def _choice(settings: SessionSettings, options: ReplyOptions) -> str:
    return settings.tool_choice if options.tool_choice is None else options.tool_choice


def _calls(message: Message) -> list[str]:
    return [part for call in message.calls for part in (call.id, call.name, call.arguments)]
