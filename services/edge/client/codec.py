"""The seam between a session and a wire protocol.

A codec (one file in `protocols/`) turns a client's messages into actions and events into the client's
messages; it is pure: no clock, no I/O, no task. The session never sees a wire message.
"""

from collections.abc import Sequence
from typing import Protocol

from services.edge.client.actions import Action
from services.edge.client.events import Event


class Codec(Protocol):
    """One connection's wire protocol."""

    rate_hz: int
    """Sample rate of `Audio` and `ReplyAudio`. May change until the first `Audio` was decoded."""
    largest_message: int
    """Bytes or characters; a larger message ends the connection."""
    starts_at_once: bool
    """The session starts with the connection; else with the client's `Start`."""
    can_pause: bool
    """Its client keeps what is queued on a `Pause` and goes on with it on a `Resume`; else the rest is sent again."""

    def decode(self, message: str | bytes) -> Sequence[Action]:
        """What the client did. Never raises on a client's data: that is an answer in a `Send`, or a `Close`."""
        ...

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """What to send for an event; often nothing."""
        ...
