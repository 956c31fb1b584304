"""Scripted chat models with audio input and audio output. For benchmarks and tests.

After the script they say how long the audio was. The voice's sample values count up, as those of the scripted
synthesizer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np

from services.llm.engines.scripted import ScriptedModel
from shared.protocol.session import RATE_HZ, Message, Tool
from shared.protocol.speech import Speech
from shared.settings import Settings

SLICE_MS = 200


class ScriptedOmni(ScriptedModel):
    """See `engine.OmniModel`. It takes audio, and has no voice of its own."""

    audio_input = True
    audio_output = False
    rate_hz = 0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._samples = max(1, round(settings.scripted_tts_seconds * 16_000))
        self._voice_delay_s = settings.scripted_tts_ms / 1000

    async def reply(  # type: ignore[override]  # it takes more arguments and yields more types
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        audio: bytes = b"",
        voice: str | None = None,
    ) -> AsyncIterator[str | Speech]:
        """Yield the script and, if there was audio, its length: "I heard 1200 ms."."""
        length = f" I heard {len(audio) // 2 * 1000 // RATE_HZ} ms." if audio else ""
        script = prefix[: -len(length)] if length and prefix.endswith(length) else prefix
        async for delta in super().reply(messages, language=language, prefix=script, tools=tools):
            yield delta
        if script == prefix:
            yield length
        if voice is not None and self.audio_output:
            await asyncio.sleep(self._voice_delay_s)
            step = SLICE_MS * self.rate_hz // 1000
            for start in range(0, self._samples, step):
                numbers = np.arange(start, min(start + step, self._samples)) % 32_768
                yield Speech(numbers.astype("<i2").tobytes())


class ScriptedTalker(ScriptedOmni):
    """It also speaks: a ramp of `scripted_tts_seconds`."""

    audio_output = True
    rate_hz = 16_000
