"""Judges the windows of all sessions of a worker together: one call of the detector for whatever has come.

It owns the order: a session's entries are taken, judged and accepted one after another, whatever the detector takes.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from services.vad.engine import SpeechDetector
from services.vad.listener import Heard, Listener
from shared.protocol.frames import Frame

WAITING_LIMIT = 2_000
"""Entries of one session that may wait to be judged, 40 s of audio; one more, and its work fails."""

Answer = Callable[[Heard], None]


class Hearing:
    """One session's entries on their way through the detector."""

    def __init__(self, judge: "Judge", listener: Listener, answer: Answer, fail: Callable[[Exception], None]) -> None:
        self.listener, self.answer, self.fail = listener, answer, fail
        self.ear = judge.detector.open()
        self.waiting: list[tuple[str, Sequence[Frame]]] = []
        self.closed = False
        self._judge = judge

    def add(self, entry_id: str, frames: Sequence[Frame]) -> None:
        """The next entry; what it leads to is answered in this turn of the event loop at the earliest."""
        if self.closed:
            return
        self.waiting.append((entry_id, frames))
        if len(self.waiting) > WAITING_LIMIT:
            self.fail(OverflowError(f"{len(self.waiting)} entries behind"))
            return
        self._judge.has(self)

    def close(self) -> None:
        """Nothing is answered any more."""
        self.closed = True
        self.waiting.clear()


class Judge:
    """All hearings of a worker."""

    def __init__(self, detector: SpeechDetector[Any]) -> None:
        self.detector = detector
        self._hearings: dict[Hearing, None] = {}  # those with entries that wait, in the order of their coming
        self._busy = False
        self._thread = None if detector.quick else ThreadPoolExecutor(1, "detector")

    def has(self, hearing: Hearing) -> None:
        """This hearing has something to be judged."""
        self._hearings[hearing] = None
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        batch = [taken for hearing in self._hearings if (taken := _take(hearing)) is not None]
        self._hearings.clear()
        wanted = [(taken.hearing.ear, taken.windows) for taken in batch if taken.windows]
        if self._thread is None:
            self._settle(batch, self._try(wanted))
            return
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._try, wanted)
        future.add_done_callback(lambda done: None if done.cancelled() else self._settle(batch, done.result()))

    def _try(self, wanted: Sequence[tuple[Any, bytes]]) -> list[list[float]] | Exception:
        try:
            return self.detector.judge(wanted) if wanted else []
        except Exception as error:  # a model that fails, fails all who asked it
            return error

    def _settle(self, batch: Sequence["_Taken"], judged: list[list[float]] | Exception) -> None:
        self._busy = False
        if isinstance(judged, Exception):
            for taken in batch:
                taken.hearing.fail(judged)
        else:
            found = iter(judged)
            for taken in batch:
                _answer(taken, next(found) if taken.windows else ())
        if self._hearings:
            self.has(next(iter(self._hearings)))

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Entries of one session, and all windows that they complete."""

    hearing: Hearing
    entries: Sequence[tuple[str, Sequence[Frame]]]
    windows: bytes


def _take(hearing: Hearing) -> _Taken | None:
    entries, hearing.waiting = hearing.waiting, []
    try:
        windows = b"".join([hearing.listener.take(*entry) for entry in entries])
    except Exception as error:  # becomes the failure of this session's work, not of all
        hearing.fail(error)
        return None
    return _Taken(hearing, entries, windows)


def _answer(taken: _Taken, probabilities: Sequence[float]) -> None:
    left = iter(probabilities)
    for entry_id, frames in taken.entries:
        if taken.hearing.closed:
            return
        try:
            taken.hearing.answer(taken.hearing.listener.accept(entry_id, frames, left))
        except Exception as error:  # as above
            taken.hearing.fail(error)
            return
