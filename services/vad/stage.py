"""The vad stage: detects speech in sessions, decides on turns, and numbers every turn."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from services.vad.detector_batcher import DetectorBatcher, DetectorSession
from services.vad.endpointing.engine import Pause, TurnDetector
from services.vad.engine import WINDOW_SAMPLES, SpeechDetector
from services.vad.listener import Detection, Listener
from services.vad.pauses import Pauses, transcribed
from services.vad.turn_trace import TurnTrace
from shared.observability.logs import shows_content
from shared.observability.tracing import is_tracing
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    SessionStarted,
    SpeechPaused,
    TranscriptFinal,
)
from shared.protocol.session import RATE_HZ
from shared.protocol.streams import StreamKind
from shared.worker.work import ABANDONED_S, Work

log = structlog.get_logger()

CHECK_S = 1.0
STALLED_S = 2.0
"""A turn is committed when the client has sent nothing for this long."""
ENDPOINTING_S = 1.0
"""Timeout of the endpointing engine. After it, the endpoint of the settings holds."""


class VadStage:
    """Each piece of work is a session and lasts until the session ends."""

    name = "vad"
    long_lived = True
    interruptible = False

    def __init__(
        self, detector: SpeechDetector[Any], turn_detector: TurnDetector, slots: int, engine: str, endpointing: str
    ) -> None:
        self._detector, self._turn_detector = detector, turn_detector
        self._batcher = DetectorBatcher(detector)
        self._engine, self._endpointing = engine, endpointing
        self.slots = slots

    async def load(self) -> None:
        await self._detector.load()
        await self._turn_detector.load()

    def info(self) -> dict[str, Any]:
        return {"engine": self._engine, "endpointing": self._endpointing, "slots": self.slots}

    async def work(self, work: Work) -> Sequence[Frame]:
        """Process the session's input until the session ends.

        Raises:
            TypeError: the job is not a `SessionStarted`.
        """
        if not isinstance(work.frame, SessionStarted):
            raise TypeError(f"the vad stage takes SessionStarted, not {type(work.frame).__name__}")
        listener = Listener(
            work.session,
            work.frame.settings,
            self._turn_detector.audio_s,
            transcribe=self._turn_detector.uses_words,
        )
        session = _Session(work, listener, self._batcher, self._turn_detector)
        # Also at the first attempt: the session may have had another job, which the broker lost.
        if (checkpoint := await work.load_checkpoint()) is not None:
            settings, _ = await work.conversation()
            session.speaker.restore(listener.restore(checkpoint, settings))
            session.restore_trace()
        work.follow(StreamKind.IN, listener.replay_from, session.deliver)
        try:
            await session.run()
            work.expire_session()
        finally:
            session.detector_session.close()
        return ()

    async def close(self) -> None:
        self._batcher.close()
        await self._turn_detector.close()
        await self._detector.close()


class _Session:
    """Publishes the listener's detections, asks the endpointing engine at pauses, notices when the client is gone."""

    def __init__(self, work: Work, listener: Listener, batcher: DetectorBatcher, turn_detector: TurnDetector) -> None:
        self.detector_session = DetectorSession(batcher, listener, self._on_detection, self._on_error)
        self.speaker = turn_detector.open()
        self._audio_s = turn_detector.audio_s
        self._work, self._listener = work, listener
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._latest_input_s = self._loop.time()
        self._pause: Pause | None = None  # for the endpointing engine
        self._wake = asyncio.Event()  # there is such a pause, or the session ended
        self._trace = TurnTrace(work.session) if is_tracing() else None
        self._pauses = Pauses(self.speaker)

    def restore_trace(self) -> None:
        """Continue the span of the turn in progress, which another worker began."""
        if self._trace is not None:
            self._trace.restore(self._listener.trace)

    def deliver(self, entry_id: str, fence: int, frames: list[Frame]) -> None:
        self._latest_input_s = self._loop.time()
        self.detector_session.add(entry_id, frames)

    def _on_error(self, error: Exception) -> None:
        self.detector_session.close()
        if not self._ended.done():
            self._ended.set_exception(error)
            self._wake.set()

    def _on_detection(self, detection: Detection) -> None:
        self._publish(detection.speech)
        if detection.facts:
            for fact in detection.facts:
                self._observe(fact)
            self._save(detection.facts)
            self._publish(detection.late_speech)
        if (words := detection.words) is not None and self._listener.turns.pauses(words.turn, words.revision):
            self._ask(transcribed(words))
        if detection.ended and not self._ended.done():
            self._ended.set_result(None)
            self._wake.set()

    def _save(self, facts: Sequence[Frame]) -> None:
        """Publish the facts and the checkpoint together."""
        if self._trace is not None:
            facts = self._trace.follow(facts, self._onset_age_s())
            self._listener.trace = self._trace.state()
        self._work.checkpoint(facts, self._listener.checkpoint(self.speaker.state()))

    def _onset_age_s(self) -> float:
        """Estimate how long ago the latest onset was spoken, by the broker's clock."""
        turns = self._listener.turns
        since_onset_s = (turns.position - turns.turn.onset * WINDOW_SAMPLES) / RATE_HZ
        return since_onset_s + self._work.age_s(turns.turn.began_ms)

    def _publish(self, speech: Sequence[AudioChunk]) -> None:
        for chunk in speech:
            self._work.publish(chunk, urgent=False)

    def _observe(self, fact: Frame) -> None:
        """Tell the endpointing engine about pauses and ends of turns."""
        self._pauses.observe(fact)
        match fact:
            case SpeechPaused() if self._listener.settings.adapt_endpoint:
                self._ask(Pause(fact.turn, fact.revision))
            case TranscriptFinal(turn=turn, text=text) if text and shows_content():
                log.info("turn typed", session=self._work.session, turn=turn, revision=0, text=text)
            case _:
                pass

    def _ask(self, pause: Pause) -> None:
        """Ask the endpointing engine about this pause, as soon as it has answered about the one before."""
        self._pause = pause
        self._wake.set()

    async def run(self) -> None:
        """Serve the session until it ends.

        Raises:
            Exception: the detector, or the processing of an entry, failed.
        """
        while not self._ended.done():
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                if await self._is_abandoned():
                    return
                continue
            self._wake.clear()
            if self._pause is not None:
                await self._set_endpoint(self._pause)
        self._ended.result()

    async def _set_endpoint(self, pause: Pause) -> None:
        """Ask the endpointing engine how long this pause may last."""
        self._pause = None
        listener = self._listener
        pause = replace(pause, pcm=listener.recent(self._audio_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDPOINTING_S):
                decision = await self.speaker.decide(pause, listener.settings)
                listener.turns.wait(pause.turn, pause.revision, decision.wait_ms, decision.reasons)
                if self._trace is not None:
                    self._trace.decided(pause, decision)

    async def _is_abandoned(self) -> bool:
        """Commit a turn that has stalled. Returns whether the session has ended without a `SessionEnded`."""
        silent_s = self._loop.time() - self._latest_input_s
        if silent_s > STALLED_S and self._listener.turns.in_turn and self._listener.settings.detect_turns:
            self._save(self._listener.stalled())
        if silent_s > ABANDONED_S:
            if not await self._work.session_lives():
                self._work.forget_session()
                return True
            self._latest_input_s = self._loop.time()
        return False
