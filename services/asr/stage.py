"""The asr stage: hears an utterance while it is spoken, and says what it was when the turn is over, or may be."""

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog

from services.asr.engine import Recognizer, Transcript, Utterance
from shared.observability import metrics
from shared.observability.logs import shows_content
from shared.protocol.frames import (
    AudioChunk,
    Frame,
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
    """Its work is an utterance; it lasts as long as the turn."""

    name = "asr"
    long_lived = False
    interruptible = False  # what the person said counts, also when they go on speaking

    def __init__(self, recognizer: Recognizer, engine: str) -> None:
        self._recognizer, self._engine = recognizer, engine
        self.slots = recognizer.slots

    async def load(self) -> None:
        await self._recognizer.load()
        metrics.asr_seconds.labels(self._engine)  # from 0 on

    def info(self) -> dict[str, Any]:
        return {"engine": self._engine, "slots": self.slots}

    async def work(self, work: Work) -> Sequence[Frame]:
        """Hear the utterance to its end."""
        job = work.frame
        if not isinstance(job, SpeechStarted):
            raise TypeError(f"{type(job).__name__} is no utterance")
        revision, partial, position = job.revision, "", job.start
        said = await _said_before(work) if work.attempt > 1 else set[int]()
        heard_s = metrics.asr_seconds.labels(self._engine)
        utterance = _Timed(await self._recognizer.open(job.language, job.hints))
        try:
            async with work.feed(StreamKind.SPEECH, job.cursor) as feed, aclosing(feed):
                async for frame in feed:
                    match frame:
                        case AudioChunk(offset, pcm) if offset + len(pcm) // 2 > position:
                            fresh = pcm[2 * max(0, position - offset) :]
                            position = offset + len(pcm) // 2
                            heard_s.inc(len(fresh) / (2 * RATE_HZ))
                            text = await utterance.accept(fresh)
                            if text and text != partial:
                                partial = text
                                work.publish(TranscriptPartial(job.turn, revision, text), urgent=False)
                        case SpeechResumed() if frame.turn == job.turn:
                            revision = frame.revision
                        case SpeechPaused(speculate=True) if frame.turn == job.turn and frame.revision not in said:
                            said.add(frame.revision)
                            work.commit([_final(work, job, frame.revision, await utterance.finish(), ReplyOptions())])
                        case TurnCommitted() if frame.turn == job.turn:
                            if frame.revision in said:
                                return ()  # no audio has come since: this is what was said
                            return [_final(work, job, frame.revision, await utterance.finish(), frame.options)]
                        case TurnDiscarded() if frame.turn == job.turn:
                            return ()
                        case _:
                            pass
            return ()
        finally:
            if position > job.start:
                factor = utterance.spent_s * RATE_HZ / (position - job.start)
                metrics.realtime_factor.labels(self.name, self._engine).observe(factor)
            utterance.close()

    async def close(self) -> None:
        await self._recognizer.close()


class _Timed:
    """An utterance, and the time that its engine took for it."""

    def __init__(self, utterance: Utterance) -> None:
        self._utterance = utterance
        self.spent_s = 0.0
        self.close = utterance.close

    async def accept(self, pcm: bytes) -> str | None:
        began_s = time.monotonic()
        try:
            return await self._utterance.accept(pcm)
        finally:
            self.spent_s += time.monotonic() - began_s

    async def finish(self) -> Transcript:
        began_s = time.monotonic()
        try:
            return await self._utterance.finish()
        finally:
            self.spent_s += time.monotonic() - began_s


def _final(
    work: Work, job: SpeechStarted, revision: int, transcript: Transcript, options: ReplyOptions
) -> TranscriptFinal:
    """What was said; nobody answers what had no words, or what is answered as it sounds."""
    text = transcript.text
    if not text or job.route == OMNI:
        options = replace(options, wants_reply=False)
    work.note("transcript")
    work.span.set_attribute("parley.revision", revision)
    if shows_content():
        log.info("turn transcribed", revision=revision, text=text)
        work.span.set_attribute("parley.transcript", text)
    return TranscriptFinal(job.session, job.turn, revision, text, options, work.trace)


async def _said_before(work: Work) -> set[int]:
    """The revisions that an earlier attempt has closed: each has one transcript, whoever hears it."""
    return {
        frame.revision for frame in await work.log() if isinstance(frame, TranscriptFinal) and frame.turn == work.turn
    }
