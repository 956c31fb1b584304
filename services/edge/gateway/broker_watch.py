"""Tells a client when the broker takes nothing of what it says, and ends its session when that lasts."""

from collections.abc import Callable

from shared.bus.session_store import SessionStore

WARNING_S = 2.0
"""The client is warned when the broker has taken nothing for this long."""
LONGEST_S = 30.0
"""The session is closed when the broker has taken nothing for this long."""


class BrokerWatch:
    """Watches for one session."""

    def __init__(
        self, bus: SessionStore, notify: Callable[[str, str], None], close: Callable[[int, str], None]
    ) -> None:
        """`notify` takes a code and a message for the client; `close` a close code and a reason."""
        self._bus, self._notify, self._close = bus, notify, close
        self._warned = False

    def look(self) -> None:
        """Call this regularly."""
        refusing_s = self._bus.refusing_s
        if refusing_s > LONGEST_S:
            self._close(1012, "the broker is full")
        elif refusing_s > WARNING_S and not self._warned:
            self._notify("broker_full", "the broker takes no data at the moment: what you say is lost")
        self._warned = refusing_s > WARNING_S
