"""The events that a client was sent: numbered, and kept in the broker, so that no event is lost or repeated at a resume.

The broker keeps what kind of event it was and of which turn, not what was in it: an edge that goes on with the session
rebuilds the events, and needs to know which of them the client has.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from services.edge.client import events as ev
from shared.bus.channel import Channel
from shared.protocol.frames import EventSent

NOT_NUMBERED = (ev.ReplyAudio, ev.Ready)
"""Audio is counted in samples; `Ready` comes first on each connection."""


class Journal:
    """The numbers of one session's events."""

    def __init__(self, channel: Channel) -> None:
        self.number = 0
        """The number of the last event that was sent."""
        self._channel = channel
        self._known: Counter[tuple[str, int]] = Counter()
        self._known_chars: Counter[int] = Counter()
        self._unwritten = 0  # events that the client has received, and a killed edge had not yet written

    def restore(self, sent: Iterable[EventSent], since: int, received: int) -> None:
        """The client has received the events up to the number `received`; events are rebuilt from the number `since` on."""
        for event in sent:
            self.number = max(self.number, event.number)
            if since < event.number <= received:
                self._known[event.name, event.turn] += 1
                self._known_chars[event.turn] += event.chars
        self._unwritten = max(0, received - self.number)
        self.number = max(self.number, received)

    def unknown(self, event: ev.Event) -> ev.Event | None:
        """Return the part of a rebuilt event that the client has not received; None if it has all of it.

        Call it once for each event, in order."""
        turn = getattr(event, "turn", 0)
        if isinstance(event, ev.ReplyText):
            known = min(self._known_chars[turn], len(event.text))
            self._known_chars[turn] -= known
            if known == len(event.text):
                return None
            event = replace(event, text=event.text[known:])
        elif self._known[type(event).__name__, turn]:
            self._known[type(event).__name__, turn] -= 1
            return None
        if self._unwritten:  # the edge sent it, and was killed before the broker had it
            self._unwritten -= 1
            return None
        return event

    def note(self, event: ev.Event) -> int:
        """Number an event that is sent now. Returns the number."""
        self.number += 1
        chars = len(event.text) if isinstance(event, ev.ReplyText) else 0
        self._channel.publish(EventSent(self.number, type(event).__name__, getattr(event, "turn", 0), chars))
        return self.number
