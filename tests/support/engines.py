"""Engines from outside, named as `module:Class`: a chat model that counts how often it is asked, one that asks for a
tool, one that speaks slowly, an end that is soon."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from services.llm.scripted import ScriptedModel
from services.llm.scripted_omni import ScriptedTalker
from services.vad.endpointing import FixedDetector, FixedSpeaker
from shared.session import Message, SessionSettings, Tool, ToolCall
from shared.settings import Settings
from shared.speech import Speech


class CountedModel(ScriptedModel):
    """Writes a line for each time that it is asked: the last thing that it was told."""

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str, None]:
        with Path(os.environ["TEST_CALLS"]).open("a") as calls:
            calls.write(" | ".join(f"{message.role}: {message.text}" for message in messages) + "\n")
        async for delta in super().reply(messages, language=language, prefix=prefix, tools=tools):
            yield delta


class ToolModel:
    """Asks for its first tool where the weather is spoken of, and says what the tool answered."""

    slots = 16

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall, None]:
        last = messages[-1]
        if last.role == "tool":
            yield f"I hear that {last.text}."[len(prefix) :]
        elif tools and "weather" in last.text:
            yield "Let me see."[len(prefix) :]
            yield ToolCall("call", tools[0].name, '{"city": "Bonn"}')  # one id for all: the edge tells them apart
        else:
            yield "I see."[len(prefix) :]

    async def close(self) -> None:
        pass


class SoonOver(FixedDetector):
    """Takes every turn for complete; says so if it was given the sound of it."""

    audio_s = 8.0

    def open(self) -> "SoonOverSpeaker":
        return SoonOverSpeaker()


class SoonOverSpeaker(FixedSpeaker):
    async def wait_ms(self, pcm: bytes, settings: SessionSettings) -> int:
        heard_s = len(pcm) / 32_000
        return settings.complete_ms if 0.5 < heard_s <= 8 and any(pcm) else settings.incomplete_ms


class SlowTalker(ScriptedTalker):
    """Speaks no faster than is played twice as fast, so that it can die in the middle."""

    async def reply(  # type: ignore[override]  # as its base: it may be asked for more, and gives more
        self, messages: Sequence[Message], **asked: Any
    ) -> AsyncGenerator[str | Speech, None]:
        async for item in super().reply(messages, **asked):
            if isinstance(item, Speech):
                await asyncio.sleep(0.1)
            yield item
