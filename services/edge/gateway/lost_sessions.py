"""Sessions whose client is gone: those that wait for it to come back, and those whose end the workers do not know yet."""

import asyncio
from collections import deque
from typing import Any

from services.edge.gateway.session import Session, end_session
from shared.bus.bus import Bus
from shared.protocol.turns import WHOLE_SESSION

KEPT = 10_000
"""Sessions of each kind that are remembered while there is no broker."""


class LostSessions:
    """The lost sessions of one edge. While there is no broker they are remembered: workers would keep them for long."""

    def __init__(self, resume_s: float) -> None:
        """`resume_s`: the time that a client has to come back."""
        self._resume_s = resume_s
        self._bus: Bus | None = None
        self._waiting: dict[asyncio.TimerHandle, tuple[str, str]] = {}
        """The session of each timer, and the line that the client has lost."""
        self._without_bus: deque[tuple[str, str]] = deque(maxlen=KEPT)
        self._unended: deque[str] = deque(maxlen=KEPT)

    def use(self, bus: Bus) -> None:
        """There is a broker: end the sessions that ended without one, and give the others their time."""
        self._bus = bus
        while self._unended:
            end_session(bus, self._unended.popleft(), "failed")
        while self._without_bus:
            self._wait(bus, *self._without_bus.popleft())

    def lose_bus(self) -> None:
        """The broker is gone."""
        self._bus = None
        for timer, lost in self._waiting.items():
            timer.cancel()
            self._without_bus.append(lost)
        self._waiting.clear()

    def add(self, session: Session) -> None:
        """The session's client may come back, here or at another edge; if it does not, the session ends."""
        if session.line is None:
            return
        if self._bus is None:
            self._without_bus.append((session.id, session.line.name))
        else:
            self._wait(self._bus, session.id, session.line.name)

    def add_ended(self, session: Session) -> None:
        """The session has ended with a broker that is gone."""
        if self._bus is None:
            self._unended.append(session.id)
        else:
            end_session(self._bus, session.id, "failed")

    def _wait(self, bus: Bus, session: str, line: str) -> None:
        def ended(reply: Any) -> None:
            if reply == 1:
                bus.stop(session, WHOLE_SESSION, 0)

        def give_up() -> None:
            del self._waiting[timer]
            bus.end_line(session, line, "lost", ended)

        timer = asyncio.get_running_loop().call_later(self._resume_s, give_up)
        self._waiting[timer] = (session, line)
