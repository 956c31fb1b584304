"""A chat model with a script that hears and speaks, for benchmarks and tests: it says how long what it heard was, after the
script, and its voice numbers its own samples, as the scripted voice does."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np

from services.llm.engines.scripted import ScriptedModel
from shared.protocol.session import RATE_HZ, Message, Tool
from shared.protocol.speech import Speech
from shared.settings import Settings

SLICE_MS = 200


class ScriptedOmni(ScriptedModel):
    """See `engine.OmniModel`; it hears, and has others speak."""

    hears = True
    speaks = False
    rate_hz = 0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._samples = max(1, round(settings.scripted_tts_seconds * 16_000))
        self._voice_delay_s = settings.scripted_tts_ms / 1000

    async def reply(  # type: ignore[override]  # it may be asked for more, and gives more
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        audio: bytes = b"",
        voice: str | None = None,
    ) -> AsyncIterator[str | Speech]:
        """The script, and then what was heard: "I heard 1200 ms." where there was anything to be heard."""
        heard = f" I heard {len(audio) // 2 * 1000 // RATE_HZ} ms." if audio else ""
        script = prefix[: -len(heard)] if heard and prefix.endswith(heard) else prefix
        async for delta in super().reply(messages, language=language, prefix=script, tools=tools):
            yield delta
        if script == prefix:
            yield heard
        if voice is not None and self.speaks:
            await asyncio.sleep(self._voice_delay_s)
            step = SLICE_MS * self.rate_hz // 1000
            for start in range(0, self._samples, step):
                numbers = np.arange(start, min(start + step, self._samples)) % 32_768
                yield Speech(numbers.astype("<i2").tobytes())


class ScriptedTalker(ScriptedOmni):
    """It speaks too: a ramp of `scripted_tts_seconds`."""

    speaks = True
    rate_hz = 16_000
