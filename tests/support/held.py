"""Scripted engines that stand still where a test wants it: while the folder TEST_HELD contains a file with the name of their
stage and of the session's language."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from services.asr.engine import Transcript, Utterance
from services.asr.engines.scripted import ScriptedRecognizer
from services.llm.engines.scripted import ScriptedModel
from services.tts.engine import Speech
from services.tts.engines.scripted import ScriptedSynthesizer
from shared.protocol.session import Message, Tool

POLL_S = 0.01
SAID_CHARS = 12
"""Where the model stands still: within the first sentence."""
SPOKEN_SLICES = 3
"""Where the voice stands still, in each sentence."""


def gate(folder: Path, stage: str, language: str) -> Path:
    return folder / f"{stage}-{language}"


async def pass_gate(stage: str, language: str) -> None:
    while gate(Path(os.environ["TEST_HELD"]), stage, language).exists():
        await asyncio.sleep(POLL_S)


class HeldRecognizer(ScriptedRecognizer):
    async def open(self, language: str, hints: str = "") -> Utterance:
        return HeldUtterance(await super().open(language, hints), language)


class HeldUtterance:
    """Takes no audio, and gives no transcript, while it is held."""

    def __init__(self, utterance: Utterance, language: str) -> None:
        self._utterance, self._language = utterance, language
        self.close = utterance.close

    async def accept(self, pcm: bytes) -> str | None:
        await pass_gate("asr", self._language)
        return await self._utterance.accept(pcm)

    async def finish(self) -> Transcript:
        await pass_gate("asr", self._language)
        return await self._utterance.finish()


class HeldModel(ScriptedModel):
    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str, None]:
        said = len(prefix)
        async for delta in super().reply(messages, language=language, prefix=prefix, tools=tools):
            yield delta
            said += len(delta)
            if said >= SAID_CHARS:
                await pass_gate("llm", language)


class HeldVoice(ScriptedSynthesizer):
    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        slices = 0
        async for piece in super().speak(text, voice=voice, speed=speed, language=language):
            yield piece
            slices += 1
            if slices == SPOKEN_SLICES:
                await pass_gate("tts", language)
