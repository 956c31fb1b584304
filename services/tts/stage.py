"""The tts stage: speaks a sentence, and publishes its slices as they are synthesized."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from services.tts.engine import Cloner, Multilingual, Synthesizer, voice_languages
from services.tts.reading import prepare_rules, read_out
from services.tts.replies import Replies
from shared.audio.voices import ClonedVoice
from shared.engines.registry import model_of
from shared.observability import metrics
from shared.protocol.frames import Frame, ReplySentence, VoiceChunk, VoiceDone
from shared.worker.work import Work

VOICES_KEPT = 32
"""Number of cloned voices whose recordings a worker caches, about half a megabyte each."""


class TtsStage:
    """A stage whose unit of work is one sentence."""

    name = "tts"
    long_lived = False
    interruptible = True

    def __init__(self, synthesizer: Synthesizer, engine: str, ahead_s: float) -> None:
        """`ahead_s`: see `Replies`."""
        self._synthesizer, self._engine = synthesizer, engine
        self.slots = synthesizer.slots
        self._cloned: OrderedDict[str, ClonedVoice] = OrderedDict()
        self._replies = Replies(ahead_s)

    async def load(self) -> None:
        await self._synthesizer.load()
        await asyncio.to_thread(prepare_rules, self._synthesizer)
        metrics.tts_characters.labels(self._engine)  # export 0: a rate needs a sample before the first increment

    def info(self) -> dict[str, Any]:
        return {
            "engine": self._engine,
            "model": model_of(self._synthesizer),
            "slots": self.slots,
            "voices": list(self._synthesizer.voices()),
            "languages": sorted(self._synthesizer.languages()) if isinstance(self._synthesizer, Multilingual) else [],
            "voice_languages": voice_languages(self._synthesizer),
            "rate_hz": self._synthesizer.rate_hz,
            "clones": isinstance(self._synthesizer, Cloner),
        }

    async def work(self, work: Work) -> Sequence[Frame]:
        """Speak the sentence. A second attempt starts at the first sample: the edge drops the samples that it already
        has.

        Raises:
            ValueError: the engine rejects the sentence, or the voice is unknown.
        """
        job = work.frame
        if not isinstance(job, ReplySentence):
            raise TypeError(f"expected ReplySentence, got {type(job).__name__}")
        if job.voice and isinstance(self._synthesizer, Cloner) and job.voice not in self._synthesizer.voices():
            # The engine now has the recording: deleting the voice no longer affects this sentence.
            self._synthesizer.learn(await self._find_cloned(work, job.voice))
        if not self._synthesizer.in_order:
            return [await self._speak(work, job)]
        reply = self._replies.of(job)
        async with reply.turn_of(work):
            done = await self._speak(work, job)
            reply.add(done.samples / self._synthesizer.rate_hz)
            return [done]

    async def _speak(self, work: Work, job: ReplySentence) -> VoiceDone:
        rate_hz, samples, started_s = self._synthesizer.rate_hz, 0, time.monotonic()
        metrics.tts_characters.labels(self._engine).inc(
            len(job.text)
        )  # before synthesis: failed attempts are billed, too
        speech = read_out(self._synthesizer, job.text, voice=job.voice, speed=job.speed, language=job.language)
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
            factor = (time.monotonic() - started_s) * rate_hz / samples
            metrics.realtime_factor.labels(self.name, self._engine).observe(factor)
        return VoiceDone(job.turn, job.revision, job.index, samples)

    async def _find_cloned(self, work: Work, name: str) -> ClonedVoice:
        """Return the current version of a cloned voice.

        Raises:
            ValueError: there is no cloned voice of that name.
        """
        cached = self._cloned.pop(name, None)
        voice = await work.voice(name, cached)
        if voice is None:
            raise ValueError(f"unknown voice {name!r}: neither a voice of the engine nor a cloned voice")
        self._cloned[name] = voice
        while len(self._cloned) > VOICES_KEPT:
            self._cloned.popitem(last=False)
        return voice

    async def close(self) -> None:
        await self._synthesizer.close()
