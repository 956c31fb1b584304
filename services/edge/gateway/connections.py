"""The connections of one edge: whose they are, which of them have a session, and how they are closed."""

import asyncio
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress

import structlog

from services.edge.access.caller import Caller
from services.edge.access.denied import Denied
from services.edge.gateway.limits import ConnectRates
from services.edge.gateway.session import Session
from shared.settings import Settings

log = structlog.get_logger()

STOPPING = "the server is shutting down"
MOVED = f"{STOPPING}: connect again with the resume token"
DRAIN_CHECK_S = 0.05
"""Interval at which a draining edge looks for calls that may be moved."""
GOODBYE_LEAD_S = 4.0
"""An agent says goodbye this long before the end of the drain, or half of its time before, if that is later."""
CLOSING_S = 1.0
"""At the end of the drain, clients have this long to answer the close frame."""

Ending = asyncio.Future[tuple[int, str]]
"""The code and the reason with which the server closes a connection."""
CloseCallback = Callable[[int, str], None]
"""Takes the code and the reason with which a connection is to be closed."""


class Connections:
    """All connections, from the handshake to the close."""

    def __init__(self, settings: Settings) -> None:
        self.sessions: set[Session] = set()
        """The sessions that have started."""
        self._max_silent, self._max_sessions = settings.max_silent, settings.caller_sessions
        self._max_connects = settings.caller_connects
        self._silent: dict[Session, CloseCallback] = {}
        """Connections whose session has not started, the oldest first, and how each is closed."""
        self._connects = ConnectRates(settings.caller_connects)
        self._endings: dict[Ending, Caller] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def check(self, caller: Caller) -> None:
        """Raises `Denied` if the caller connects too often, or has all the sessions that it may have at the same time.

        Without a key, callers on this machine have no limits.
        """
        limit = None if caller.key is None else caller.key.sessions
        if limit is None and caller.local:
            return
        if not self._connects.take(caller.id, asyncio.get_running_loop().time()):
            message = f"more than {self._max_connects} connections a minute (PARLEY_CALLER_CONNECTS)"
            raise Denied(429, "too_many_connections", message)
        limit = self._max_sessions if limit is None else limit
        if sum(other.id == caller.id for other in self._endings.values()) >= limit:
            who = "this address" if caller.key is None else "this key"
            raise Denied(429, "too_many_sessions", f"{who} may have {limit} sessions at the same time, and has them")

    @contextmanager
    def opened(self, caller: Caller) -> Iterator[Ending]:
        """Count the connection while the context lasts. Yields what to set so that the server closes it."""
        ending: Ending = asyncio.get_running_loop().create_future()
        self._endings[ending] = caller
        try:
            yield ending
        finally:
            del self._endings[ending]

    def let_wait(self, session: Session, close: CloseCallback) -> None:
        """Let a connection wait for its session to start. If too many wait, close the one that has waited longest."""
        if len(self._silent) >= self._max_silent:
            oldest = next(iter(self._silent))
            self._silent.pop(oldest)(1013, "nothing was said, and others are waiting")
        self._silent[session] = close

    def start(self, session: Session) -> None:
        """Count the session of this connection: it has started."""
        self._silent.pop(session, None)
        self.sessions.add(session)
        self._empty.clear()

    def leave(self, session: Session) -> bool:
        """Forget a closed connection. Returns whether its session had started."""
        self._silent.pop(session, None)
        if session not in self.sessions:
            return False
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()
        return True

    def end_all(self, code: int, reason: str) -> None:
        """Close all connections."""
        for ending in tuple(self._endings):
            end(ending, code, reason)

    def end_revoked(self, valid: Container[str]) -> None:
        """End the connections whose key is not among the valid ones."""
        for ending, caller in tuple(self._endings.items()):
            if caller.key is not None and caller.key.id not in valid:
                end(ending, 1008, "the key of this session was revoked, or has expired")

    async def drain(self, drain_s: float) -> None:
        """Let every call go on to the end of its reply, or of the drain time, then end it.

        A client that cannot reconnect by itself keeps its call until the time is nearly over. Then it hears the goodbye of
        its agent, if that has one.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + drain_s
        goodbye_s = end_s - min(GOODBYE_LEAD_S, drain_s / 2)
        if self.sessions:
            log.info("the edge drains", sessions=len(self.sessions), drain_s=drain_s)
        while self.sessions and loop.time() < end_s:
            for session in self.sessions:
                if session.is_resumable or not session.started:
                    session.end_when_silent(1012, MOVED)
                elif loop.time() >= goodbye_s:
                    session.say_goodbye(1012, STOPPING)
            await self._until_empty(DRAIN_CHECK_S)
        self.end_all(1012, MOVED)
        await self._until_empty(CLOSING_S)

    async def _until_empty(self, most_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._empty.wait()


def end(ending: Ending, code: int, reason: str) -> None:
    """Let the server close the connection, unless it already does."""
    if not ending.done():
        ending.set_result((code, reason))
