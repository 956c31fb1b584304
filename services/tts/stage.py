"""The tts stage: speaks a sentence, in slices as they come."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from services.tts.engine import Synthesizer
from shared.frames import Frame, ReplySentence, VoiceChunk, VoiceDone
from shared.worker import Work


class TtsStage:
    """Its work is a sentence."""

    name = "tts"
    long_lived = False
    interruptible = True

    def __init__(self, synthesizer: Synthesizer, engine: str) -> None:
        self._synthesizer, self._engine = synthesizer, engine
        self.slots = synthesizer.slots

    async def load(self) -> None:
        await self._synthesizer.load()

    def info(self) -> dict[str, Any]:
        voices = list(self._synthesizer.voices())
        return {"engine": self._engine, "slots": self.slots, "voices": voices, "rate_hz": self._synthesizer.rate_hz}

    async def work(self, work: Work) -> Sequence[Frame]:
        """Speak the sentence. A second attempt speaks it again from its beginning: the edge drops what it has."""
        job = work.frame
        if not isinstance(job, ReplySentence):
            raise TypeError(f"{type(job).__name__} is no sentence")
        rate_hz, samples = self._synthesizer.rate_hz, 0
        speech = self._synthesizer.speak(job.text, voice=job.voice, speed=job.speed, language=job.language)
        async with aclosing(speech):
            async for piece in speech:
                work.publish(
                    VoiceChunk(job.turn, job.revision, job.index, samples, rate_hz, piece.pcm, piece.words),
                    urgent=samples == 0,
                )
                samples += len(piece.pcm) // 2
                await work.drain()
        return [VoiceDone(job.turn, job.revision, job.index, samples)]

    async def close(self) -> None:
        await self._synthesizer.close()
