"""A connection's hold on a session that can be resumed: its token, its resume points, and what the client has received."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge

from services.edge.client import events as ev
from services.edge.client.codec import Resumable
from services.edge.gateway.journal import Journal
from services.edge.gateway.resume import SavedSession, new_token, token_hash
from shared.bus.channel import Channel
from shared.bus.session_store import SessionStore
from shared.protocol.frames import Frame, MessageReceived, ResumePoint, SessionResumed

POINTS_KEPT = 8
"""Resume points of a session. A client that has lost events of several turns needs an older one."""
POINTS_BYTES = 1024 * 1024
"""States of a wire protocol in them, together; the newest is kept, however large it is."""


class Line:
    """One connection. A session that begins on it, or goes on, is its own until another connection takes it."""

    def __init__(self, bus: SessionStore, codec: Resumable) -> None:
        self.name = secrets.token_hex(8)
        self.token = ""
        self.is_taken = False
        """Another connection serves the session."""
        self._bus, self._codec = bus, codec
        self._session = ""
        self._points: list[ResumePoint] = []
        self._journal: Journal
        self._messages: list[tuple[int, MessageReceived]] = []

    @property
    def resumes_at_hz(self) -> int | None:
        return self._codec.resumes_at_hz

    @property
    def newest_over(self) -> int:
        """The newest turn that was over at the newest resume point."""
        return self._points[-1].newest_over

    def open(self, session: str, channel: Channel) -> None:
        """The session begins. A resume point must follow."""
        self._session, self.token = session, new_token(session)
        self._bus.open_line(session, self.name, token_hash(self.token))
        self._journal = Journal(channel)
        self._codec.number(self._journal)

    def take(self, saved: SavedSession, channel: Channel, received: int) -> None:
        """The session goes on; the client has the events up to the number `received`. `rebuilt` must follow."""
        point = saved.points[-1]
        self._session, self.token, self._points = saved.id, saved.token, list(saved.points)
        self._codec.resume(saved.settings, point.codec)
        self._journal = Journal(channel)
        self._messages = self._journal.restore(saved.journal, point.events, received)
        self._codec.number(self._journal)

    def rebuilt(self, events: Sequence[tuple[int, ev.Event]]) -> Iterator[str | bytes]:
        """The messages that the client has not received of all events since the resume point, each with its time (ms, the
        broker's clock)."""
        messages, self._messages = self._messages, []
        for _, what in merge(messages, events, key=lambda one: one[0]):
            if isinstance(what, MessageReceived):
                yield from self._codec.replay(what.number, what.body)
            else:
                yield from self._codec.encode(what)
        self._journal.rebuilt()

    def save(self, point: ResumePoint) -> None:
        """The session can be resumed from here."""
        point = replace(point, events=self._journal.number, codec=self._codec.save())
        points = [*self._points, point][-POINTS_KEPT:]
        while len(points) > 1 and sum(len(one.codec) for one in points) > POINTS_BYTES:
            del points[0]
        self._points = points
        self._bus.save_resume_points(self._session, points)

    def note_taken(self, frames: Sequence[Frame]) -> bool:
        """Whether another connection has taken the session, as this entry of its log says."""
        self.is_taken |= any(type(frame) is SessionResumed and frame.line != self.name for frame in frames)
        return self.is_taken
