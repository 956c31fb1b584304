"""What a chat model is told, and a checksum of it by which a reply made early is known to be still the right one. Pure."""

from collections.abc import Sequence
from zlib import crc32

import msgpack

from shared.session import Message, ReplyOptions, SessionSettings

INTERRUPTED = "(The person interrupted you here and heard nothing beyond this.)"
"""Said by the system, not put into the model's own words: a model writes on as it believes to have written."""


def prompt(
    settings: SessionSettings, options: ReplyOptions, history: Sequence[Message], turn: int, text: str
) -> list[Message]:
    """The conversation as the model gets it: instructions, what was said and heard before this turn, this turn."""
    instructions = settings.instructions if options.instructions is None else options.instructions
    messages = [Message("system", instructions, 0)] if instructions else []
    for message in history:
        if message.turn >= turn:
            continue
        if message.text or message.calls:
            messages.append(message)
        if message.interrupted:
            messages.append(Message("system", INTERRUPTED, message.turn))
    if text:
        messages.append(Message("user", text, turn))
    return messages


def basis(settings: SessionSettings, options: ReplyOptions, messages: Sequence[Message]) -> int:
    """Checksum of all that a reply depends on: the messages, and how it is to be spoken."""
    spoken = settings.spoken if options.spoken is None else options.spoken
    told = [(message.role, message.text, message.answers, *_calls(message)) for message in messages]
    packed: bytes = msgpack.packb((told, spoken, settings.voice, settings.speed, settings.language, options.say))
    return crc32(packed)


def _calls(message: Message) -> list[str]:
    return [part for call in message.calls for part in (call.id, call.name, call.arguments)]
