"""The tts stage: speaks a sentence, in slices as they come."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from services.tts.engine import Cloner, Synthesizer
from shared.audio.voices import ClonedVoice
from shared.observability import metrics
from shared.protocol.frames import Frame, ReplySentence, VoiceChunk, VoiceDone
from shared.worker.work import Work

VOICES_KEPT = 32
"""Cloned voices whose recordings a worker holds, about half a megabyte each."""


class TtsStage:
    """Its work is a sentence."""

    name = "tts"
    long_lived = False
    interruptible = True

    def __init__(self, synthesizer: Synthesizer, engine: str) -> None:
        self._synthesizer, self._engine = synthesizer, engine
        self.slots = synthesizer.slots
        self._cloned: OrderedDict[str, ClonedVoice] = OrderedDict()

    async def load(self) -> None:
        await self._synthesizer.load()
        metrics.tts_characters.labels(self._engine)  # from 0 on

    def info(self) -> dict[str, Any]:
        return {
            "engine": self._engine,
            "slots": self.slots,
            "voices": list(self._synthesizer.voices()),
            "rate_hz": self._synthesizer.rate_hz,
            "clones": isinstance(self._synthesizer, Cloner),
        }

    async def work(self, work: Work) -> Sequence[Frame]:
        """Speak the sentence. A second attempt speaks it again from its beginning: the edge drops what it has."""
        job = work.frame
        if not isinstance(job, ReplySentence):
            raise TypeError(f"{type(job).__name__} is no sentence")
        if job.voice and isinstance(self._synthesizer, Cloner) and job.voice not in self._synthesizer.voices():
            # From here on the sentence has its voice, even if somebody deletes it meanwhile.
            self._synthesizer.learn(await self._find_cloned(work, job.voice))
        rate_hz, samples, began_s = self._synthesizer.rate_hz, 0, time.monotonic()
        metrics.tts_characters.labels(self._engine).inc(len(job.text))  # also of an attempt that fails: it is billed
        speech = self._synthesizer.speak(job.text, voice=job.voice, speed=job.speed, language=job.language)
        async with aclosing(speech):
            async for piece in speech:
                if not samples:
                    work.note("first audio", "parley.first_audio_s")
                work.publish(
                    VoiceChunk(job.turn, job.revision, job.index, samples, rate_hz, piece.pcm, piece.words),
                    urgent=samples == 0,
                )
                samples += len(piece.pcm) // 2
                await work.drain()
        if samples:
            factor = (time.monotonic() - began_s) * rate_hz / samples
            metrics.realtime_factor.labels(self.name, self._engine).observe(factor)
        return [VoiceDone(job.turn, job.revision, job.index, samples)]

    async def _find_cloned(self, work: Work, name: str) -> ClonedVoice:
        """The voice as it is now.

        Raises:
            ValueError: there is none of that name.
        """
        known = self._cloned.pop(name, None)
        voice = await work.voice(name, known)
        if voice is None:
            raise ValueError(f"unknown voice {name!r}: neither the engine has it, nor is there a cloned one")
        self._cloned[name] = voice
        while len(self._cloned) > VOICES_KEPT:
            self._cloned.popitem(last=False)
        return voice

    async def close(self) -> None:
        await self._synthesizer.close()
