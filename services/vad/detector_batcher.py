"""Batches the windows of all sessions of a worker: one detector call for everything that has arrived.

It owns the order: a session's entries are taken, judged and accepted one after another, whatever the detector takes.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from services.vad.engine import SpeechDetector
from services.vad.listener import Detection, Listener
from shared.protocol.frames import Frame

WAITING_LIMIT = 2_000
"""Entries of one session that may wait to be judged, 40 s of audio; one more, and its work fails."""

Answer = Callable[[Detection], None]


class DetectorSession:
    """One session's entries on their way through the detector."""

    def __init__(
        self, batcher: "DetectorBatcher", listener: Listener, answer: Answer, fail: Callable[[Exception], None]
    ) -> None:
        self.listener, self.answer, self.fail = listener, answer, fail
        self.state = batcher.detector.open()
        self.waiting: list[tuple[str, Sequence[Frame]]] = []
        self.closed = False
        self._batcher = batcher

    def add(self, entry_id: str, frames: Sequence[Frame]) -> None:
        """The next entry; what it leads to is answered in this turn of the event loop at the earliest."""
        if self.closed:
            return
        self.waiting.append((entry_id, frames))
        if len(self.waiting) > WAITING_LIMIT:
            self.fail(OverflowError(f"{len(self.waiting)} entries behind"))
            return
        self._batcher.enqueue(self)

    def close(self) -> None:
        """Nothing is answered any more."""
        self.closed = True
        self.waiting.clear()


class DetectorBatcher:
    """Calls the detector once for everything that all sessions of a worker have received since the last call."""

    def __init__(self, detector: SpeechDetector[Any]) -> None:
        self.detector = detector
        self._waiting: dict[DetectorSession, None] = {}  # sessions with waiting entries, in order of arrival
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "detector") if detector.blocking else None

    def enqueue(self, session: DetectorSession) -> None:
        """Put a session that has entries to judge into the next batch."""
        self._waiting[session] = None
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        batch = [taken for session in self._waiting if (taken := _take(session)) is not None]
        self._waiting.clear()
        wanted = [(taken.session.state, taken.windows) for taken in batch if taken.windows]
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
                taken.session.fail(judged)
        else:
            found = iter(judged)
            for taken in batch:
                _answer(taken, next(found) if taken.windows else ())
        if self._waiting:
            self.enqueue(next(iter(self._waiting)))

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Entries of one session, and all windows that they complete."""

    session: DetectorSession
    entries: Sequence[tuple[str, Sequence[Frame]]]
    windows: bytes


def _take(session: DetectorSession) -> _Taken | None:
    entries, session.waiting = session.waiting, []
    try:
        windows = b"".join([session.listener.take(*entry) for entry in entries])
    except Exception as error:  # becomes the failure of this session's work, not of all
        session.fail(error)
        return None
    return _Taken(session, entries, windows)


def _answer(taken: _Taken, probabilities: Sequence[float]) -> None:
    left = iter(probabilities)
    for entry_id, frames in taken.entries:
        if taken.session.closed:
            return
        try:
            taken.session.answer(taken.session.listener.accept(entry_id, frames, left))
        except Exception as error:  # as above
            taken.session.fail(error)
            return
