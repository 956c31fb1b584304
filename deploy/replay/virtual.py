"""Runs the input of a recorded session through the present speech detector, turn-taking and recogniser, as fast as they go.

Time is that of the input audio. The chat model and the voice are not asked: what they say differs each time anyway.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from opentelemetry.trace import INVALID_SPAN

from services.asr.engine import ENGINES as RECOGNIZERS
from services.asr.stage import AsrStage
from services.vad.endpointing.engine import ENGINES as ENDPOINTING
from services.vad.endpointing.engine import Pause, Speaker, TurnDetector
from services.vad.engine import ENGINES as DETECTORS
from services.vad.engine import SpeechDetector
from services.vad.listener import Detection, Listener
from services.vad.pauses import Pauses, transcribed
from services.vad.stage import STALLED_S
from shared.engines.registry import create_engine, loaded
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import Frame, SessionStarted, SpeechPaused, SpeechStarted
from shared.protocol.session import SessionSettings
from shared.protocol.streams import StreamKind
from shared.recordings import BadRecording, Entry, Recording
from shared.settings import Settings
from shared.worker.work import Work

Log = list[tuple[str, Sequence[Frame]]]


async def replay_in_virtual_time(recording: Recording, settings: Settings) -> Log:
    """Return the log that the present code makes of a recording's input; its ids are those of the input.

    Raises:
        UnknownEngine: an engine of the settings cannot be loaded here.
        BadRecording: the recording has no beginning.
    """
    detector = create_engine("vad", settings.vad_engine, DETECTORS, settings)
    turn_detector = create_engine("endpoint", settings.endpoint_engine, ENDPOINTING, settings)
    recognizer = create_engine("asr", settings.asr_engine, RECOGNIZERS, settings)
    async with loaded(detector), loaded(turn_detector), loaded(recognizer):
        vad = _VadWork(recording.session, settings_of(recording), detector, turn_detector)
        for entry, following in zip(recording.input, [*recording.input[1:], None], strict=True):
            await vad.take(entry, following)
        stage = AsrStage(recognizer, settings.asr_engine)
        for at, (_, frames) in enumerate(tuple(vad.log)):
            for job in (frame for frame in frames if isinstance(frame, SpeechStarted)):
                vad.log += await _transcribe(stage, job, vad.log[at:], vad.speech)
    return vad.log


def settings_of(recording: Recording) -> SessionSettings:
    """Return the settings with which the session began. Raises `BadRecording`."""
    for entry in recording.log:
        for frame in entry.frames:
            if isinstance(frame, SessionStarted):
                return frame.settings
    raise BadRecording("the recording does not contain the beginning of its session")


class _VadWork:
    """What a vad worker does with a session's input, one entry after another."""

    def __init__(
        self, session: str, settings: SessionSettings, detector: SpeechDetector[Any], turn_detector: TurnDetector
    ) -> None:
        self.log: Log = []
        self.speech: list[Frame] = []
        """The frames of the session's `speech` stream."""
        self._detector, self._state = detector, detector.open()
        self._speaker: Speaker = turn_detector.open()
        self._pauses = Pauses(self._speaker)
        self._audio_s = turn_detector.audio_s
        self._listener = Listener(session, settings, turn_detector.audio_s, transcribe=turn_detector.uses_words)

    async def take(self, entry: Entry, following: Entry | None) -> None:
        windows = self._listener.take(entry.id, entry.frames)
        probabilities = await self._judge(windows) if windows else []
        await self._publish(entry.id, self._listener.accept(entry.id, entry.frames, iter(probabilities)))
        silent_s = (milliseconds(following.id) - milliseconds(entry.id)) / 1000 if following is not None else 0.0
        turns = self._listener.turns
        if silent_s > STALLED_S and turns.in_turn and self._listener.settings.detect_turns:
            await self._publish(entry.id, Detection([], self._listener.stalled()))

    async def _judge(self, windows: bytes) -> list[float]:
        judged = await asyncio.to_thread(self._detector.judge, [(self._state, windows)])
        return judged[0]

    async def _publish(self, entry_id: str, detection: Detection) -> None:
        self.speech += detection.speech
        if (words := detection.words) is not None:
            await self._set_endpoint(transcribed(words))
        if not detection.facts:
            return
        self.log.append((entry_id, tuple(detection.facts)))
        self.speech += detection.facts
        self.speech += detection.late_speech
        for fact in detection.facts:
            self._pauses.observe(fact)
            if isinstance(fact, SpeechPaused) and self._listener.settings.adapt_endpoint:
                await self._set_endpoint(Pause(fact.turn, fact.revision))

    async def _set_endpoint(self, pause: Pause) -> None:
        pause = replace(pause, pcm=self._listener.recent(self._audio_s))
        decision = await self._speaker.decide(pause, self._listener.settings)
        self._listener.turns.wait(pause.turn, pause.revision, decision.wait_ms)


class _AsrWork:
    """The part of a `Work` that the asr stage uses: an utterance whose audio is all there."""

    attempt, trace, span = 1, "", INVALID_SPAN

    def __init__(self, job: SpeechStarted, speech: Sequence[Frame]) -> None:
        self.frame, self._speech = job, speech
        self.published: list[Frame] = []

    @asynccontextmanager
    async def feed(self, kind: StreamKind, after: str) -> AsyncIterator[AsyncGenerator[Frame, None]]:
        async def frames() -> AsyncGenerator[Frame, None]:
            for frame in self._speech:
                yield frame

        yield frames()

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        self.published.append(frame)

    def commit(self, frames: Sequence[Frame]) -> None:
        self.published += frames

    def note(self, event: str) -> None: ...


async def _transcribe(stage: AsrStage, job: SpeechStarted, log: Log, speech: Sequence[Frame]) -> Log:
    """Return the log entries that the recogniser adds for one utterance."""
    begin = next((at for at, frame in enumerate(speech) if frame is job), len(speech))
    work = _AsrWork(job, speech[begin:])
    work.published += await stage.work(cast("Work", work))
    return [(log[0][0], tuple(work.published))] if work.published else []
