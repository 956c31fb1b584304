"""External engines, named as `module:Class`: they log calls, ask for a tool, are slow, or lose their device."""

import asyncio
import os
import struct
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from services.llm.engines.scripted import ScriptedModel
from services.llm.engines.scripted_omni import ScriptedTalker
from services.tts.engine import Speech
from services.tts.engines.scripted import ScriptedSynthesizer
from services.vad.endpointing.engine import Decision, FixedDetector, FixedSpeaker, Pause
from shared.engines.registry import EngineLost
from shared.protocol.session import Message, SessionSettings, Tool, ToolCall
from shared.settings import Settings

TEXT = "The first sentence is here. The second sentence follows it. The third one is the last."
STEP_S = 0.04
TOKEN_S = 0.1
"""Long enough that a busy machine still kills the model in the middle of its reply."""
SLICE, SLICES = 800, 20


class Outside:
    """An engine with nothing to load."""

    slots = 16
    in_order = False  # if it is a synthesizer

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        pass

    async def close(self) -> None:
        pass


class CountedModel(ScriptedModel):
    """Writes a line to the file TEST_CALLS for each call, with its messages."""

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str, None]:
        with Path(os.environ["TEST_CALLS"]).open("a") as calls:
            calls.write(" | ".join(f"{message.role}: {message.text}" for message in messages) + "\n")
        async for delta in super().reply(messages, language=language, prefix=prefix, tools=tools):
            yield delta


class ToolModel(Outside):
    """Calls its first tool when the weather is mentioned, and says what the tool answered."""

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall, None]:
        last = messages[-1]
        if last.role == "tool":
            yield f"I hear that {last.text}."[len(prefix) :]
        elif tools and "weather" in last.text:
            yield "Let me see."[len(prefix) :]
            yield ToolCall(
                "call", tools[0].name, '{"city": "Bonn"}'
            )  # the same id every time: the edge makes them unique
        else:
            yield "I see."[len(prefix) :]


class SoonOver(FixedDetector):
    """Takes every turn for complete, if it was given the audio of it."""

    audio_s = 8.0

    def open(self) -> "SoonOverSpeaker":
        return SoonOverSpeaker()


class SoonOverSpeaker(FixedSpeaker):
    async def decide(self, pause: Pause, settings: SessionSettings) -> Decision:
        heard_s = len(pause.pcm) / 32_000
        return Decision(settings.complete_ms if 0.5 < heard_s <= 8 and any(pause.pcm) else settings.incomplete_ms)


class SlowTalker(ScriptedTalker):
    """Speaks slowly enough to be killed in the middle."""

    async def reply(  # type: ignore[override]  # as in its base class
        self, messages: Sequence[Message], **asked: Any
    ) -> AsyncGenerator[str | Speech, None]:
        async for item in super().reply(messages, **asked):
            if isinstance(item, Speech):
                await asyncio.sleep(0.1)
            yield item


class SlowModel(Outside):
    """Replies with three sentences, a few letters at a time."""

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str, None]:
        assert TEXT.startswith(prefix)
        for at in range(len(prefix), len(TEXT), 4):
            await asyncio.sleep(TOKEN_S)
            yield TEXT[at : at + 4]


class NarrowModel(SlowModel):
    """Three replies at a time."""

    slots = 3


class NarrowVoice(ScriptedSynthesizer):
    """Three sentences at a time."""

    slots = 3


class SlowVoice(Outside):
    """Speaks a ramp, 50 ms of it at a time."""

    rate_hz = 16_000

    def voices(self) -> tuple[str, ...]:
        return ("slow",)

    def text_language(self, voice: str, language: str) -> str:
        return ""

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        for number in range(SLICES):
            await asyncio.sleep(STEP_S)
            yield Speech(struct.pack(f"<{SLICE}h", *range(number * SLICE, (number + 1) * SLICE)))


class CountedVoice(SlowVoice):
    """Writes a line to the file TEST_CALLS for each sentence, with the voice and the language that it is asked for."""

    def voices(self) -> tuple[str, ...]:
        return ("anna", "bert")

    def languages(self) -> tuple[str, ...]:
        return ("de", "en")

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        with Path(os.environ["TEST_CALLS"]).open("a") as calls:
            calls.write(f"{voice} {language} {speed:g}: {text}\n")
        async for piece in super().speak(text, voice=voice, speed=speed, language=language):
            yield piece


class LostVoice(SlowVoice):
    """Loses its device in the middle of a first sentence, as often as the file TEST_LOSSES says."""

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        losses = Path(os.environ["TEST_LOSSES"])
        left = int(losses.read_text())
        async for piece in super().speak(text, voice=voice, speed=speed, language=language):
            if left > 0 and TEXT.startswith(text):
                losses.write_text(str(left - 1))
                raise EngineLost("the device has no memory left")
            yield piece


class SilentModel(Outside):
    """Answers with nothing."""

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str, None]:
        if False:
            yield ""
