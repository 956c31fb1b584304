"""Records sessions: reads their input and log back from the broker, and appends both to a file each.

The session itself knows nothing of it. What cannot be written in time is left out: a slow disk never delays a call.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from services.edge.gateway.session import Session
from shared.bus.session_store import SessionStore
from shared.protocol.frames import Frame
from shared.protocol.streams import StreamKind
from shared.recordings import append, delete_old, pack_entry, pack_header, recording_path, recordings_folder
from shared.settings import Settings

log = structlog.get_logger()

WRITE_S = 0.5
"""Interval of writing, and of looking for new sessions; the broker has the input of the last 30 s."""
LINGER_S = 3.0
"""A session's log is recorded on for this time after its end."""
LARGEST_BUFFER_BYTES = 8 * 1024 * 1024
"""What one session may have waiting for the disk: 30 s of input and a long reply."""
SWEEP_S = 3600.0


class Recorder:
    """Records one session."""

    def __init__(self, bus: SessionStore, session: Session, path: Path) -> None:
        self.path = path
        self.left_out = 0
        """Entries that were dropped because the disk was too slow."""
        self.ended_s: float | None = None
        """When the session was gone, by the event loop's clock."""
        self._buffer = bytearray(pack_header(session.id, session.protocol))
        self._subscriptions = [
            bus.follow(kind, session.id, "0-0", partial(self._take, kind)) for kind in (StreamKind.IN, StreamKind.OUT)
        ]

    def _take(self, kind: StreamKind, entry_id: str, fence: int, frames: Sequence[Frame]) -> None:
        if len(self._buffer) > LARGEST_BUFFER_BYTES:
            self.left_out += 1
        elif frames:
            self._buffer += pack_entry(kind, entry_id, fence, frames)

    def take(self) -> bytes:
        """Return what is to be written, and forget it."""
        taken, self._buffer = bytes(self._buffer), bytearray()
        return taken

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()


class Recordings:
    """Records the sessions of an edge that are to be recorded, and deletes old recordings."""

    def __init__(self, settings: Settings, sessions: Collection[Session]) -> None:
        """`sessions`: those that are connected now; it changes."""
        self._settings, self._sessions = settings, sessions
        self._folder = recordings_folder(settings)
        self._recorders: dict[str, Recorder] = {}

    async def run(self, bus: SessionStore) -> None:
        """Record while the bus lasts, until cancelled."""
        loop = asyncio.get_running_loop()
        swept_s: float | None = None
        try:
            while True:
                if swept_s is None or loop.time() - swept_s > SWEEP_S:
                    swept_s = loop.time()
                    await asyncio.to_thread(self._sweep)
                self._follow(bus, loop.time())
                await self._write()
                await asyncio.sleep(WRITE_S)
        finally:
            for recorder in self._recorders.values():
                recorder.close()
                self._append(recorder)  # blocking: the edge stops
            self._recorders.clear()

    def _follow(self, bus: SessionStore, now_s: float) -> None:
        """Begin to record new sessions, and stop some time after their end."""
        recorded = {one.id: one for one in tuple(self._sessions) if one.started and self._is_recorded(one)}
        for name, session in recorded.items():
            if name not in self._recorders:
                self._recorders[name] = Recorder(bus, session, recording_path(self._folder, name))
                log.info("session recorded", session=name)
        for name, recorder in self._recorders.items():
            recorder.ended_s = None if name in recorded else recorder.ended_s or now_s

    def _is_recorded(self, session: Session) -> bool:
        allowed = self._settings.record
        return allowed == "all" or (allowed == "asked" and session.settings.may_record)

    async def _write(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for name, recorder in tuple(self._recorders.items()):
            over = recorder.ended_s is not None and now_s - recorder.ended_s > LINGER_S
            if over:
                recorder.close()
                del self._recorders[name]
            await asyncio.to_thread(self._append, recorder)
            if over and recorder.left_out:
                log.warning("recording incomplete", session=name, entries_left_out=recorder.left_out)

    def _append(self, recorder: Recorder) -> None:
        packed = recorder.take()
        try:
            if packed:
                append(recorder.path, packed)
        except OSError as error:
            recorder.left_out += 1
            log.warning("recording not written", path=str(recorder.path), reason=error.strerror)

    def _sweep(self) -> None:
        with suppress(OSError):
            if deleted := delete_old(self._folder, self._settings.keep_recordings_h):
                log.info("old recordings deleted", count=deleted)
