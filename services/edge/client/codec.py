"""The interface between a session and a wire protocol.

A codec (in `protocols/`) turns a client's messages into actions, and the session's events into messages for the client.
It is pure: no clock, no I/O, no task. The session never sees a wire message.
"""

from collections.abc import Sequence
from typing import Protocol

from services.edge.client.actions import Action
from services.edge.client.events import Event
from shared.protocol.session import SessionSettings


class Codec(Protocol):
    """The wire protocol of one connection."""

    rate_hz: int
    """Sample rate of `Audio` and `ReplyAudio`. It may change until the first `Audio` is decoded."""
    largest_message: int
    """In bytes or characters; a larger message closes the connection."""
    shows_failures: bool
    """The client is told of a turn that failed; else the session says goodbye where nothing of the reply was heard."""
    can_pause: bool
    """The client keeps queued audio on a `Pause` and plays it on a `Resume`; else the session sends it again."""
    reconnects: bool
    """A client of this protocol can connect again by itself when it loses its line."""

    @property
    def starts_with(self) -> SessionSettings | None:
        """The settings with which the session starts at once; None: it waits for the client's `Start`."""
        ...

    def decode(self, message: str | bytes) -> Sequence[Action]:
        """The client's actions. Never raises on a client's data: an error becomes an answer (`Send`) or a `Close`."""
        ...

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """The messages for an event; often none."""
        ...
