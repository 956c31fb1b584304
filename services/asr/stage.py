"""The asr stage: transcribes an utterance while it is spoken, and publishes the transcript at a pause or the commit."""

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog

from services.asr.engine import Multilingual, Recognizer, Transcript, Utterance
from shared.engines.registry import model_of
from shared.observability import metrics
from shared.observability.logs import shows_content
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    PauseTranscribed,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TranscriptFinal,
    TranscriptPartial,
    TurnCommitted,
    TurnDiscarded,
)
from shared.protocol.session import OMNI, RATE_HZ, ReplyOptions
from shared.protocol.streams import StreamKind
from shared.worker.work import Work

log = structlog.get_logger()


class AsrStage:
    """Each piece of work is an utterance and lasts as long as its turn."""

    name = "asr"
    long_lived = False
    interruptible = False  # a transcript stays valid when the person speaks on

    def __init__(self, recognizer: Recognizer, engine: str) -> None:
        self._recognizer, self._engine = recognizer, engine
        self.slots = recognizer.slots

    async def load(self) -> None:
        await self._recognizer.load()
        metrics.asr_seconds.labels(self._engine)  # export the counter from 0 on

    def info(self) -> dict[str, Any]:
        languages = self._recognizer.languages if isinstance(self._recognizer, Multilingual) else ()
        return {
            "engine": self._engine,
            "model": model_of(self._recognizer),
            "languages": sorted(languages),
            "slots": self.slots,
        }

    async def work(self, work: Work) -> Sequence[Frame]:
        """Transcribe the utterance until its turn is committed or discarded.

        Raises:
            TypeError: the job is not a `SpeechStarted`.
            ValueError: the recogniser does not know the language.
        """
        job = work.frame
        if not isinstance(job, SpeechStarted):
            raise TypeError(f"the asr stage takes SpeechStarted, not {type(job).__name__}")
        revision, partial, position = job.revision, "", job.start
        published = await _published_revisions(work) if work.attempt > 1 else set[int]()
        audio_seconds = metrics.asr_seconds.labels(self._engine)
        utterance = _TimedUtterance(await self._recognizer.open(job.language, job.hints))
        try:
            async with work.feed(StreamKind.SPEECH, job.cursor) as feed, aclosing(feed):
                async for frame in feed:
                    match frame:
                        case AudioChunk(offset, pcm) if offset + len(pcm) // 2 > position:
                            fresh = pcm[2 * max(0, position - offset) :]
                            position = offset + len(pcm) // 2
                            audio_seconds.inc(len(fresh) / (2 * RATE_HZ))
                            text = await utterance.accept(fresh)
                            if text and text != partial:
                                partial = text
                                work.publish(TranscriptPartial(job.turn, revision, text), urgent=False)
                        case SpeechResumed() if frame.turn == job.turn:
                            revision = frame.revision
                        case SpeechPaused() if frame.turn == job.turn:
                            speculate = frame.speculate and frame.revision not in published
                            if not speculate and not frame.transcribe:
                                continue
                            transcript = await utterance.finish()
                            if frame.transcribe:
                                work.publish(_at_pause(job, frame.revision, transcript))
                            if speculate:
                                published.add(frame.revision)
                                work.commit([_final(work, job, frame.revision, transcript, ReplyOptions())])
                        case TurnCommitted() if frame.turn == job.turn:
                            if frame.revision in published:
                                return ()  # no audio comes between a pause and the commit: the transcript is the same
                            return [_final(work, job, frame.revision, await utterance.finish(), frame.options)]
                        case TurnDiscarded() if frame.turn == job.turn:
                            return ()
                        case _:
                            pass
            return ()
        finally:
            if position > job.start:
                factor = utterance.engine_s * RATE_HZ / (position - job.start)
                metrics.realtime_factor.labels(self.name, self._engine).observe(factor)
            utterance.close()

    async def close(self) -> None:
        await self._recognizer.close()


class _TimedUtterance:
    """An utterance that measures the time its engine takes."""

    def __init__(self, utterance: Utterance) -> None:
        self._utterance = utterance
        self.engine_s = 0.0
        self.close = utterance.close

    async def accept(self, pcm: bytes) -> str | None:
        began_s = time.monotonic()
        try:
            return await self._utterance.accept(pcm)
        finally:
            self.engine_s += time.monotonic() - began_s

    async def finish(self) -> Transcript:
        began_s = time.monotonic()
        try:
            return await self._utterance.finish()
        finally:
            self.engine_s += time.monotonic() - began_s


def _final(
    work: Work, job: SpeechStarted, revision: int, transcript: Transcript, options: ReplyOptions
) -> TranscriptFinal:
    """Make the final transcript. It asks for no reply if it is empty, or if the turn is answered from its audio."""
    text = transcript.text
    if not text or job.route == OMNI:
        options = replace(options, wants_reply=False)
    work.note("transcript")
    work.span.set_attribute("parley.revision", revision)
    if shows_content():
        log.info("turn transcribed", revision=revision, text=text)
        work.span.set_attribute("parley.transcript", text)
    return TranscriptFinal(job.session, job.turn, revision, text, options, work.trace, transcript.murmur)


def _at_pause(job: SpeechStarted, revision: int, transcript: Transcript) -> PauseTranscribed:
    return PauseTranscribed(job.turn, revision, transcript.text, transcript.language, transcript.confidence)


async def _published_revisions(work: Work) -> set[int]:
    """Return the revisions whose transcripts an earlier attempt has published. Each is published only once."""
    return {
        frame.revision for frame in await work.log() if isinstance(frame, TranscriptFinal) and frame.turn == work.turn
    }
