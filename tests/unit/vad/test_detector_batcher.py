"""The detector batcher: one call for all sessions, each in order, and a failing session does not affect the others."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from services.vad.detector_batcher import WAITING_LIMIT, DetectorBatcher, DetectorSession
from services.vad.engine import WINDOW_BYTES
from services.vad.listener import Detection, Listener
from shared.protocol.frames import AudioChunk, InputCommitted, SpeechStarted, TurnCommitted, TurnDiscarded
from shared.protocol.session import ReplyOptions, SessionSettings
from tests.support.waiting import HANG_S


class AnySound:
    """A detector that takes any non-zero sample for speech. Records its calls."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.broken = False

    async def load(self) -> None: ...

    def open(self) -> object:
        return object()

    def judge(self, batch: Sequence[tuple[Any, bytes]]) -> list[list[float]]:
        self.batches.append(len(batch))
        self.threads.add(threading.current_thread().name)
        if self.broken:
            raise RuntimeError("out of memory")
        return [
            [float(any(pcm[at : at + WINDOW_BYTES])) for at in range(0, len(pcm), WINDOW_BYTES)] for _, pcm in batch
        ]

    async def close(self) -> None: ...


class Session:
    """A session in the batcher, its detections and its errors."""

    def __init__(self, batcher: DetectorBatcher, name: str) -> None:
        self.detections: list[Detection] = []
        self.errors: list[Exception] = []
        self.detector_session = DetectorSession(
            batcher, Listener(name, SessionSettings()), self.detections.append, self.errors.append
        )
        self._windows = 0

    def add_windows(self, *values: int) -> None:
        """Add one entry for each window; every byte of the window has the given value."""
        for value in values:
            pcm = bytes([value]) * WINDOW_BYTES
            self.detector_session.add(f"{1000 + self._windows}-0", [AudioChunk(self._windows * 320, pcm)])
            self._windows += 1

    @property
    def facts(self) -> list[type]:
        return [type(fact) for detection in self.detections for fact in detection.facts]


async def settled(batcher: DetectorBatcher) -> None:
    async with asyncio.timeout(HANG_S):
        while batcher._busy:
            await asyncio.sleep(0)


@pytest.mark.parametrize("blocking", [True, False])
async def test_one_call_serves_all_sessions_and_their_facts_stay_separate(blocking: bool) -> None:
    detector = AnySound(blocking=blocking)
    batcher = DetectorBatcher(detector)
    speaking, silent = Session(batcher, "a"), Session(batcher, "b")
    for _ in range(50):
        speaking.add_windows(1)
        silent.add_windows(0)
    await settled(batcher)
    assert detector.batches == [2]
    assert (speaking.facts, silent.facts) == ([SpeechStarted], [])
    assert detector.threads == ({"detector_0"} if blocking else {"MainThread"})
    batcher.close()


async def test_entries_that_arrive_during_a_call_stay_in_order() -> None:
    detector = AnySound(blocking=True)
    batcher = DetectorBatcher(detector)
    session = Session(batcher, "a")
    for _ in range(30):
        session.add_windows(1)
        await asyncio.sleep(0)
    session.detector_session.add("2000-0", [InputCommitted(ReplyOptions())])
    await settled(batcher)
    assert session.facts == [SpeechStarted, TurnCommitted]
    batcher.close()


async def test_a_commit_without_audio_does_not_call_the_detector() -> None:
    detector = AnySound(blocking=False)
    batcher = DetectorBatcher(detector)
    session = Session(batcher, "a")
    session.detector_session.add("1000-0", [InputCommitted(ReplyOptions())])
    await settled(batcher)
    assert session.facts == [TurnDiscarded]
    assert detector.batches == []


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_failing_call_fails_the_sessions_of_its_batch_only(blocking: bool) -> None:
    detector = AnySound(blocking=blocking)
    batcher = DetectorBatcher(detector)
    first, second = Session(batcher, "a"), Session(batcher, "b")
    detector.broken = True
    first.add_windows(1)
    await settled(batcher)
    detector.broken = False
    second.add_windows(*[1] * 10)
    await settled(batcher)
    assert [str(error) for error in first.errors] == ["out of memory"]
    assert (second.errors, second.facts) == ([], [SpeechStarted])
    batcher.close()


async def test_a_session_over_the_waiting_limit_fails_alone() -> None:
    batcher = DetectorBatcher(AnySound(blocking=False))
    behind, other = Session(batcher, "a"), Session(batcher, "b")
    other.add_windows(1)
    behind.add_windows(*[0] * (WAITING_LIMIT + 1))
    assert [type(error) for error in behind.errors] == [OverflowError]
    await settled(batcher)
    assert other.errors == []


async def test_a_closed_session_gets_no_callbacks() -> None:
    batcher = DetectorBatcher(AnySound(blocking=False))
    session = Session(batcher, "a")
    session.add_windows(*[1] * 10)
    session.detector_session.close()
    session.add_windows(1)
    await settled(batcher)
    assert session.detections == []
