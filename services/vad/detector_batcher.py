"""Batches the windows of all sessions of a worker: one detector call for everything that has arrived.

Each session's entries are taken, judged and accepted in order, however long the detector takes.
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
"""Entries of one session that may wait for the detector, 40 s of audio. The session's work fails above it."""

DetectionCallback = Callable[[Detection], None]
ErrorCallback = Callable[[Exception], None]


class DetectorSession:
    """The entries of one session on their way through the detector."""

    def __init__(
        self,
        batcher: "DetectorBatcher",
        listener: Listener,
        on_detection: DetectionCallback,
        on_error: ErrorCallback,
    ) -> None:
        self.listener, self.on_detection, self.on_error = listener, on_detection, on_error
        self.state = batcher.detector.open()
        self.waiting: list[tuple[str, Sequence[Frame]]] = []
        self.closed = False
        self._batcher = batcher

    def add(self, entry_id: str, frames: Sequence[Frame]) -> None:
        """Queue the next entry. `on_detection` is never called from within this call."""
        if self.closed:
            return
        self.waiting.append((entry_id, frames))
        if len(self.waiting) > WAITING_LIMIT:
            self.on_error(OverflowError(f"the speech detector is {len(self.waiting)} entries behind"))
            return
        self._batcher.enqueue(self)

    def close(self) -> None:
        """Drop waiting entries. No callback is called after this."""
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
        """Put the session's waiting entries into the next batch."""
        self._waiting[session] = None
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._call_detector)

    def _call_detector(self) -> None:
        batch = [taken for session in self._waiting if (taken := _take(session)) is not None]
        self._waiting.clear()
        windows = [(taken.session.state, taken.windows) for taken in batch if taken.windows]
        if self._thread is None:
            self._deliver(batch, self._judge(windows))
            return
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._judge, windows)
        future.add_done_callback(lambda done: None if done.cancelled() else self._deliver(batch, done.result()))

    def _judge(self, windows: Sequence[tuple[Any, bytes]]) -> list[list[float]] | Exception:
        try:
            return self.detector.judge(windows) if windows else []
        except Exception as error:  # fails the sessions of this batch, not the worker
            return error

    def _deliver(self, batch: Sequence["_Taken"], result: list[list[float]] | Exception) -> None:
        self._busy = False
        if isinstance(result, Exception):
            for taken in batch:
                taken.session.on_error(result)
        else:
            probabilities = iter(result)
            for taken in batch:
                _accept(taken, next(probabilities) if taken.windows else ())
        if self._waiting:
            self.enqueue(next(iter(self._waiting)))

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Entries of one session, and the audio of all windows that they complete."""

    session: DetectorSession
    entries: Sequence[tuple[str, Sequence[Frame]]]
    windows: bytes


def _take(session: DetectorSession) -> _Taken | None:
    """Take a session's waiting entries; None if that failed, and the session with it."""
    entries, session.waiting = session.waiting, []
    try:
        windows = b"".join([session.listener.take(*entry) for entry in entries])
    except Exception as error:  # fails this session, not the batch
        session.on_error(error)
        return None
    return _Taken(session, entries, windows)


def _accept(taken: _Taken, probabilities: Sequence[float]) -> None:
    remaining = iter(probabilities)
    for entry_id, frames in taken.entries:
        if taken.session.closed:
            return
        try:
            taken.session.on_detection(taken.session.listener.accept(entry_id, frames, remaining))
        except Exception as error:  # fails this session, not the batch
            taken.session.on_error(error)
            return
