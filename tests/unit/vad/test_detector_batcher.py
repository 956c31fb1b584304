"""All sessions of a worker through one detector: batched, each in order, none harmed by another."""

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


class Loud:
    """Speech is where there is any sound. Keeps what it was asked."""

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
    """A hearing and what came of it."""

    def __init__(self, batcher: DetectorBatcher, name: str) -> None:
        self.heard: list[Detection] = []
        self.errors: list[Exception] = []
        self.detector_session = DetectorSession(
            batcher, Listener(name, SessionSettings()), self.heard.append, self.errors.append
        )
        self._windows = 0

    def hear(self, *loud: int) -> None:
        """One entry for each window."""
        for one in loud:
            pcm = bytes([one]) * WINDOW_BYTES
            self.detector_session.add(f"{1000 + self._windows}-0", [AudioChunk(self._windows * 320, pcm)])
            self._windows += 1

    @property
    def facts(self) -> list[type]:
        return [type(fact) for heard in self.heard for fact in heard.facts]


async def settled(batcher: DetectorBatcher) -> None:
    async with asyncio.timeout(HANG_S):
        while batcher._busy:
            await asyncio.sleep(0)


@pytest.mark.parametrize("blocking", [True, False])
async def test_sessions_are_judged_together_and_heard_apart(blocking: bool) -> None:
    detector = Loud(blocking=blocking)
    batcher = DetectorBatcher(detector)
    speaking, silent = Session(batcher, "a"), Session(batcher, "b")
    for _ in range(50):
        speaking.hear(1)
        silent.hear(0)
    await settled(batcher)
    assert detector.batches == [2]
    assert (speaking.facts, silent.facts) == ([SpeechStarted], [])
    assert detector.threads == ({"detector_0"} if blocking else {"MainThread"})
    batcher.close()


async def test_what_comes_while_the_model_thinks_waits_its_turn_in_order() -> None:
    detector = Loud(blocking=True)
    batcher = DetectorBatcher(detector)
    session = Session(batcher, "a")
    for _ in range(30):
        session.hear(1)
        await asyncio.sleep(0)
    session.detector_session.add("2000-0", [InputCommitted(ReplyOptions())])
    await settled(batcher)
    assert session.facts == [SpeechStarted, TurnCommitted]
    batcher.close()


async def test_a_commit_without_audio_is_answered_without_the_model() -> None:
    detector = Loud(blocking=False)
    batcher = DetectorBatcher(detector)
    session = Session(batcher, "a")
    session.detector_session.add("1000-0", [InputCommitted(ReplyOptions())])
    await settled(batcher)
    assert session.facts == [TurnDiscarded]


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_model_that_fails_fails_those_who_asked_and_goes_on(blocking: bool) -> None:
    detector = Loud(blocking=blocking)
    batcher = DetectorBatcher(detector)
    first, second = Session(batcher, "a"), Session(batcher, "b")
    detector.broken = True
    first.hear(1)
    await settled(batcher)
    detector.broken = False
    second.hear(*[1] * 10)
    await settled(batcher)
    assert [str(error) for error in first.errors] == ["out of memory"]
    assert (second.errors, second.facts) == ([], [SpeechStarted])
    batcher.close()


async def test_a_session_that_is_too_far_behind_fails_alone() -> None:
    batcher = DetectorBatcher(Loud(blocking=False))
    behind, other = Session(batcher, "a"), Session(batcher, "b")
    other.hear(1)
    behind.hear(*[0] * (WAITING_LIMIT + 1))
    assert [type(error) for error in behind.errors] == [OverflowError]
    await settled(batcher)
    assert other.errors == []


async def test_a_closed_hearing_is_told_nothing() -> None:
    batcher = DetectorBatcher(Loud(blocking=False))
    session = Session(batcher, "a")
    session.hear(*[1] * 10)
    session.detector_session.close()
    session.hear(1)
    await settled(batcher)
    assert session.heard == []
