"""What an edge session, and a worker's piece of work, use of the broker.

`shared.bus.bus.Bus` is the real one. Tests and the simulation use one in memory, in virtual time.
"""

from collections.abc import Sequence
from typing import Protocol

from shared.audio.voices import ClonedVoice
from shared.bus.bus import Channel, StopCallback
from shared.bus.reader import EntryCallback, Subscription
from shared.protocol.frames import Frame
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import Keys, StreamKind
from shared.protocol.turn_record import TurnRecord


class Clock(Protocol):
    """The broker's clock."""

    def now_ms(self) -> int: ...


class Writer(Protocol):
    """The connection on which everything is written."""

    @property
    def backlog(self) -> int:
        """Commands that wait for their reply."""
        ...

    async def drain(self) -> None:
        """Wait while the broker takes data more slowly than it is made."""
        ...


class SessionStore(Protocol):
    """The streams and keys of sessions."""

    @property
    def keys(self) -> Keys: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def writer(self) -> Writer: ...

    # -- streams ----------------------------------------------------------------------------------

    def channel(self, stage: str, session: str, fence: int = 1) -> Channel: ...
    def follow(self, place: StreamKind, session: str, after: str, deliver: EntryCallback) -> Subscription: ...
    async def log(self, place: StreamKind, session: str, after: str = "-") -> list[tuple[int, list[Frame]]]: ...
    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None: ...

    # -- stop messages ----------------------------------------------------------------------------

    def stop(self, session: str, turn: int, revision: int, *, only: bool = False) -> None: ...
    async def listen_for_stops(self, on_stop: StopCallback) -> None: ...

    # -- a session's keys -------------------------------------------------------------------------

    def save_settings(self, session: str, settings: SessionSettings, packed: bytes) -> None: ...
    def save_history(self, session: str, messages: Sequence[Message]) -> None: ...
    async def conversation(self, session: str) -> tuple[bytes | None, tuple[Message, ...]]: ...
    async def checkpoint(self, session: str) -> bytes | None: ...
    async def session_lives(self, session: str) -> bool: ...
    def keep_alive(self, session: str) -> None: ...
    def forget(self, session: str) -> None: ...

    # -- what all sessions share ------------------------------------------------------------------

    def keep_turn(self, record: TurnRecord) -> None: ...
    async def voice(self, name: str, known: ClonedVoice | None = None) -> ClonedVoice | None: ...
