"""All sessions of a worker through one detector: batched, each in order, none harmed by another."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from services.vad.engine import WINDOW_BYTES
from services.vad.judge import WAITING_LIMIT, Hearing, Judge
from services.vad.listener import Heard, Listener
from shared.frames import AudioChunk, InputCommitted, SpeechStarted, TurnCommitted, TurnDiscarded
from shared.session import ReplyOptions, SessionSettings
from tests.support.waiting import HANG_S


class Loud:
    """Speech is where there is any sound. Keeps what it was asked."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
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

    def __init__(self, judge: Judge, name: str) -> None:
        self.heard: list[Heard] = []
        self.errors: list[Exception] = []
        self.hearing = Hearing(judge, Listener(name, SessionSettings()), self.heard.append, self.errors.append)
        self._windows = 0

    def hear(self, *loud: int) -> None:
        """One entry for each window."""
        for one in loud:
            pcm = bytes([one]) * WINDOW_BYTES
            self.hearing.add(f"{1000 + self._windows}-0", [AudioChunk(self._windows * 320, pcm)])
            self._windows += 1

    @property
    def facts(self) -> list[type]:
        return [type(fact) for heard in self.heard for fact in heard.facts]


async def settled(judge: Judge) -> None:
    async with asyncio.timeout(HANG_S):
        while judge._busy:
            await asyncio.sleep(0)


@pytest.mark.parametrize("quick", [True, False])
async def test_sessions_are_judged_together_and_heard_apart(quick: bool) -> None:
    detector = Loud(quick=quick)
    judge = Judge(detector)
    speaking, silent = Session(judge, "a"), Session(judge, "b")
    for _ in range(50):
        speaking.hear(1)
        silent.hear(0)
    await settled(judge)
    assert detector.batches == [2]
    assert (speaking.facts, silent.facts) == ([SpeechStarted], [])
    assert detector.threads == {"MainThread"} if quick else {"detector_0"}
    judge.close()


async def test_what_comes_while_the_model_thinks_waits_its_turn_in_order() -> None:
    detector = Loud(quick=False)
    judge = Judge(detector)
    session = Session(judge, "a")
    for _ in range(30):
        session.hear(1)
        await asyncio.sleep(0)
    session.hearing.add("2000-0", [InputCommitted(ReplyOptions())])
    await settled(judge)
    assert session.facts == [SpeechStarted, TurnCommitted]
    judge.close()


async def test_a_commit_without_audio_is_answered_without_the_model() -> None:
    detector = Loud(quick=True)
    judge = Judge(detector)
    session = Session(judge, "a")
    session.hearing.add("1000-0", [InputCommitted(ReplyOptions())])
    await settled(judge)
    assert session.facts == [TurnDiscarded]


@pytest.mark.parametrize("quick", [True, False])
async def test_a_model_that_fails_fails_those_who_asked_and_goes_on(quick: bool) -> None:
    detector = Loud(quick=quick)
    judge = Judge(detector)
    first, second = Session(judge, "a"), Session(judge, "b")
    detector.broken = True
    first.hear(1)
    await settled(judge)
    detector.broken = False
    second.hear(*[1] * 10)
    await settled(judge)
    assert [str(error) for error in first.errors] == ["out of memory"]
    assert (second.errors, second.facts) == ([], [SpeechStarted])
    judge.close()


async def test_a_session_that_is_too_far_behind_fails_alone() -> None:
    judge = Judge(Loud(quick=True))
    behind, other = Session(judge, "a"), Session(judge, "b")
    other.hear(1)
    behind.hear(*[0] * (WAITING_LIMIT + 1))
    assert [type(error) for error in behind.errors] == [OverflowError]
    await settled(judge)
    assert other.errors == []


async def test_a_closed_hearing_is_told_nothing() -> None:
    judge = Judge(Loud(quick=True))
    session = Session(judge, "a")
    session.hear(*[1] * 10)
    session.hearing.close()
    session.hear(1)
    await settled(judge)
    assert session.heard == []
