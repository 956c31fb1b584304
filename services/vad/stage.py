"""The vad stage: listens to sessions, decides on turns, and gives every turn its number."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from services.vad.detector_batcher import DetectorBatcher, DetectorSession
from services.vad.endpointing.engine import TurnDetector
from services.vad.engine import WINDOW_SAMPLES, SpeechDetector
from services.vad.listener import Detection, Listener
from services.vad.turn_trace import TurnTrace
from shared.observability.logs import shows_content
from shared.observability.tracing import is_tracing
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    SessionStarted,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TranscriptFinal,
    TurnCommitted,
)
from shared.protocol.session import RATE_HZ
from shared.protocol.streams import StreamKind
from shared.worker.work import Work

log = structlog.get_logger()

CHECK_S = 1.0
STALLED_S = 2.0
"""A client that is silent on the wire for so long within a turn has ended it."""
ABANDONED_S = 30.0
"""After so long without input it is asked whether the session still lives."""
WENT_ON_MS = 1_000
"""Speech so soon after the end of a turn belonged to it: the turn was cut off."""
JUDGE_S = 1.0
"""The engine for the end of turns has to answer by then; after that the constant holds."""


class VadStage:
    """Its work is a session; it lasts until the session ends."""

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
        """Listen until the session ends."""
        if not isinstance(work.frame, SessionStarted):
            raise TypeError(f"{type(work.frame).__name__} is no session")
        listener = Listener(work.session, work.frame.settings, self._turn_detector.audio_s)
        session = _Session(work, listener, self._batcher, self._turn_detector)
        if work.attempt > 1 and (checkpoint := await work.load_checkpoint()) is not None:
            settings, _ = await work.conversation()
            session.speaker.restore(listener.restore(checkpoint, settings))
            session.restore_trace()
        work.follow(StreamKind.IN, listener.replay_from, session.deliver)
        try:
            await session.over()
        finally:
            session.detector_session.close()
        return ()

    async def close(self) -> None:
        self._batcher.close()
        await self._turn_detector.close()
        await self._detector.close()


class _Session:
    """Publishes what the listener says, asks how long a pause may last, and notices when the client has gone."""

    def __init__(self, work: Work, listener: Listener, batcher: DetectorBatcher, turn_detector: TurnDetector) -> None:
        self.detector_session = DetectorSession(batcher, listener, self._answer, self._fail)
        self.speaker = turn_detector.open()
        self._audio_s = turn_detector.audio_s
        self._work, self._listener = work, listener
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._heard_at_s = self._loop.time()
        self._pause: SpeechPaused | None = None  # of which it is still to be asked how long it may last
        self._news = asyncio.Event()  # a pause to ask about, or the end
        self._trace = TurnTrace(work.session) if is_tracing() else None
        self._silent_since = 0  # sample at which the latest pause began, or the latest turn ended

    def restore_trace(self) -> None:
        """Go on with the span of the turn that a predecessor has begun."""
        if self._trace is not None:
            self._trace.restore(self._listener.trace)

    def deliver(self, entry_id: str, fence: int, frames: list[Frame]) -> None:
        """The next entry of the input."""
        self._heard_at_s = self._loop.time()
        self.detector_session.add(entry_id, frames)

    def _fail(self, error: Exception) -> None:
        self.detector_session.close()
        if not self._ended.done():
            self._ended.set_exception(error)
            self._news.set()

    def _answer(self, heard: Detection) -> None:
        self._publish(heard.speech)
        if heard.facts:
            for fact in heard.facts:
                self._learn(fact)
            self._save(heard.facts)
            self._publish(heard.late_speech)
        if heard.ended and not self._ended.done():
            self._ended.set_result(None)
            self._news.set()

    def _save(self, facts: Sequence[Frame]) -> None:
        """Publish the facts, together with where a successor goes on."""
        if self._trace is not None:
            facts = self._trace.follow(facts, self._spoken_ago_s())
            self._listener.trace = self._trace.state()
        self._work.checkpoint(facts, self._listener.checkpoint(self.speaker.state()))

    def _spoken_ago_s(self) -> float:
        """How long ago the first sample of the latest speech was spoken, as far as the broker's clock tells."""
        turns = self._listener.turns
        within_s = (turns.position - turns.now.onset * WINDOW_SAMPLES) / RATE_HZ
        return within_s + self._work.age_s(turns.now.began_ms)

    def _publish(self, speech: Sequence[AudioChunk]) -> None:
        for chunk in speech:
            self._work.publish(chunk, urgent=False)

    def _learn(self, fact: Frame) -> None:
        match fact:
            case SpeechStarted(onset=onset) if self._silent_since:
                pause_ms = (onset - self._silent_since) * 1000 // RATE_HZ
                if pause_ms <= WENT_ON_MS:
                    self.speaker.resumed(pause_ms)
            case SpeechPaused():
                self._silent_since = fact.end
                if self._listener.settings.adapt_endpoint:
                    self._pause = fact
                    self._news.set()
            case SpeechResumed(onset=onset):
                self.speaker.resumed((onset - self._silent_since) * 1000 // RATE_HZ)
            case TurnCommitted(end=end, decided_at=decided_at):
                self._silent_since = end
                self.speaker.committed((decided_at - end) * 1000 // RATE_HZ)
            case TranscriptFinal(turn=turn, text=text) if text and shows_content():
                log.info("heard", session=self._work.session, turn=turn, revision=0, text=text)
            case _:
                pass

    async def over(self) -> None:
        """Returns when the session is."""
        while not self._ended.done():
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._news.wait()
            except TimeoutError:
                if await self._abandoned():
                    return
                continue
            self._news.clear()
            if self._pause is not None:
                await self._ask(self._pause)
        self._ended.result()

    async def _ask(self, pause: SpeechPaused) -> None:
        """How long may this pause last?"""
        self._pause = None
        listener = self._listener
        with suppress(TimeoutError):
            async with asyncio.timeout(JUDGE_S):
                wait_ms = await self.speaker.wait_ms(listener.recent(self._audio_s), listener.settings)
                listener.turns.wait(pause.turn, pause.revision, wait_ms)

    async def _abandoned(self) -> bool:
        """Nothing has come for a while: the turn may be over, or the client gone without a word."""
        silent_s = self._loop.time() - self._heard_at_s
        if silent_s > STALLED_S and self._listener.turns.in_turn and self._listener.settings.detect_turns:
            self._save(self._listener.stalled())
        if silent_s > ABANDONED_S:
            if not await self._work.session_lives():
                self._work.forget_session()
                return True
            self._heard_at_s = self._loop.time()
        return False
