"""What a client was sent and has sent: numbered, and kept in the broker, so that nothing is lost or repeated at a resume.

Of an event the broker keeps what kind it was and of which turn, not what was in it: an edge that goes on with the session
rebuilds the events, and needs to know which of them the client has.
"""

from collections import Counter
from collections.abc import Sequence

from shared.bus.channel import Channel
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import EventSent, EventsReceived, Frame, MessageReceived

JournalEntry = tuple[str, int, Sequence[Frame]]
"""Id, fence and frames of an entry of the session's stream of events."""


class Journal:
    """The numbers of one session. See `services.edge.client.codec.Journal`."""

    def __init__(self, channel: Channel) -> None:
        self.number = 0
        """The number of the last event that was sent."""
        self.is_rebuilding = False
        self._channel = channel
        self._known: Counter[tuple[str, int]] = Counter()
        self._known_chars: Counter[tuple[str, int]] = Counter()
        self._trimmed = 0  # the oldest events, which the client has received, and which the broker has no more
        self._unwritten = 0  # events that the client has received, and a killed edge had not yet written

    def restore(self, entries: Sequence[JournalEntry], since: int, received: int) -> list[tuple[int, MessageReceived]]:
        """Events are rebuilt from the number `since` on, until `rebuilt`; the client has received those up to `received`. Returns
        the client's messages since then, each with the time (ms, the broker's clock) at which it was written."""
        self.is_rebuilding = True
        messages: list[tuple[int, MessageReceived]] = []
        events: list[EventSent] = []
        oldest = received + 1
        for entry_id, _, frames in entries:
            for frame in frames:
                if isinstance(frame, EventsReceived):
                    events = [event for event in events if event.number <= frame.number]
                elif isinstance(frame, EventSent | MessageReceived):
                    self.number = max(self.number, frame.number)
                    oldest = min(oldest, frame.number)
                    if isinstance(frame, EventSent):
                        events.append(frame)
                    elif frame.number > since:
                        messages.append((milliseconds(entry_id), frame))
        for event in events:
            if since < event.number <= received:
                self._known[event.name, event.turn] += 1
                self._known_chars[event.name, event.turn] += event.chars
        self._trimmed = max(0, oldest - since - 1) if self.number else 0
        self._unwritten = max(0, received - self.number)
        self.number = max(self.number, received)
        self._channel.publish(EventsReceived(received))
        return messages

    def rebuilt(self) -> None:
        self.is_rebuilding = False
        self._known.clear()
        self._known_chars.clear()
        self._trimmed = self._unwritten = 0

    def has(self, name: str, turn: int = 0) -> bool:
        if self._is_trimmed():
            return True
        if self._known[name, turn] > 0:
            self._known[name, turn] -= 1
            return True
        return self._is_unwritten(name, turn, 0)

    def chars(self, name: str, turn: int, length: int) -> int:
        if self._is_trimmed():
            return length
        known = min(self._known_chars[name, turn], length)
        self._known_chars[name, turn] -= known
        return length if known < length and self._is_unwritten(name, turn, length - known) else known

    def _is_trimmed(self) -> bool:
        """Whether this event is so old that the broker has no entry of it any more. Events are rebuilt in the order of their numbers."""
        if self._trimmed > 0:
            self._trimmed -= 1
            return True
        return False

    def _is_unwritten(self, name: str, turn: int, chars: int) -> bool:
        """Whether the edge sent it, and was killed before the broker had it. The broker gets it now: the next edge needs it, too."""
        if self._unwritten > 0:
            self._unwritten -= 1
            self._channel.publish(EventSent(self.number - self._unwritten, name, turn, chars))
            return True
        return False

    def sent(self, name: str, turn: int = 0, chars: int = 0) -> int:
        self.number += 1
        self._channel.publish(EventSent(self.number, name, turn, chars))
        return self.number

    def received(self, message: str) -> int:
        self.number += 1
        self._channel.publish(MessageReceived(self.number, message))
        return self.number
