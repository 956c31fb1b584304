"""The interface between a session and a wire protocol.

A codec (in `protocols/`) turns a client's messages into actions, and the session's events into messages for the client.
It is pure: no clock, no I/O, no task. The session never sees a wire message.
"""

from collections.abc import Sequence
from typing import Protocol

from services.edge.client.actions import Action
from services.edge.client.events import Event
from shared.protocol.session import SessionSettings


class Journal(Protocol):
    """The numbers of the events that a client was sent, and which of them it has received. From 1, within the session."""

    number: int
    """Of the last event that was sent, or message that was received."""
    is_rebuilding: bool
    """The events of an earlier connection are made again. The client has all audio among them."""

    def has(self, name: str, turn: int = 0) -> bool:
        """Whether the client has a rebuilt event of this name. Call it once for each, in order; False for a new event."""
        ...

    def chars(self, name: str, turn: int, length: int) -> int:
        """How many characters the client has of the `length` of a rebuilt event; 0 for a new event."""
        ...

    def sent(self, name: str, turn: int = 0, chars: int = 0) -> int:
        """The client is sent this event now. Returns its number."""
        ...

    def received(self, message: str) -> int:
        """The client has sent this message, and it changes what the codec knows. Returns its number."""
        ...


class Resumable(Protocol):
    """A protocol in which a client resumes its session after it has lost its connection.

    It numbers what it sends, and leaves out what the client has when the events of an earlier connection are rebuilt.
    """

    @property
    def resumes_at_hz(self) -> int | None:
        """The rate that a session must have to be resumed on this connection; None: any."""
        ...

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """See `Codec`. Numbered, and without what the client has."""
        ...

    def number(self, journal: Journal) -> None:
        """The session has begun, or goes on, on this connection."""
        ...

    def save(self) -> bytes:
        """What `resume` needs and the log does not tell. Called while nobody speaks and nothing is due to be said."""
        ...

    def resume(self, settings: SessionSettings, saved: bytes) -> None:
        """The session began on another connection, and has these settings."""
        ...

    def replay(self, number: int, message: str) -> Sequence[str | bytes]:
        """The client sent this message on an earlier connection. Returns those of its answers that it has not received."""
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
