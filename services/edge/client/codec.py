"""The interface between a session and a wire protocol.

A codec (in `protocols/`) turns a client's messages into actions, and the session's events into messages for the client.
It is pure: no clock, no I/O, no task. The session never sees a wire message.
"""

from collections.abc import Sequence
from typing import Protocol

from services.edge.client.actions import Action
from services.edge.client.events import Event
from shared.protocol.session import SessionSettings


class Resumable(Protocol):
    """A protocol in which a client resumes its session after it has lost its connection."""

    def numbered(self, message: str | bytes, number: int) -> str | bytes:
        """The last message of an event, with the event's number."""
        ...

    def resume(self, settings: SessionSettings) -> None:
        """The session began on another connection, and has these settings."""
        ...


class Codec(Protocol):
    """The wire protocol of one connection."""

    rate_hz: int
    """Sample rate of `Audio` and `ReplyAudio`. It may change until the first `Audio` is decoded."""
    largest_message: int
    """In bytes or characters; a larger message closes the connection."""
    shows_failures: bool
    """The client is told of a turn that failed; else the agent says so, or says goodbye: see `apologies`."""
    can_pause: bool
    """The client keeps queued audio on a `Pause` and plays it on a `Resume`; else the session sends it again."""

    @property
    def resumable(self) -> "Resumable | None":
        """The additional methods of a protocol whose clients can resume a session; None: they cannot."""
        ...

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
