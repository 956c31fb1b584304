"""The ids of the events of a session that can be resumed. Pure.

Each says how far its receiver is: the number of the last event, the turn of the newest reply, and how many samples of that
reply's audio have been sent. So a client only has to keep the id of the last event that it has received.
"""

import re
from hashlib import sha256
from typing import Any, NamedTuple

from services.edge.client.codec import Journal
from services.edge.protocols.realtime.wire import NewId, Wire

_EVENT_ID = re.compile(r"event_([0-9a-f]{1,13})_([0-9a-f]{1,7})_([0-9a-f]{1,13})")
_DELTA = ".delta"


class Place(NamedTuple):
    """What a client has received."""

    number: int = 0
    """Of the last event."""
    turn: int = 0
    """Of the newest reply; 0: none."""
    samples: int = 0
    """Of that reply's audio, at the session's rate."""

    @property
    def event_id(self) -> str:
        return f"event_{self.number:x}_{self.turn:x}_{self.samples:x}"


def place_of(event_id: str) -> Place | None:
    """What a client has received whose last event has this id; None: it is not the id of an event of such a session."""
    match = _EVENT_ID.fullmatch(event_id)
    return None if match is None else Place(*(int(digits, 16) for digits in match.groups()))


class NumberedWire(Wire):
    """Numbers the events, and writes no event that the client has already. The ids of items and responses follow from what they
    are about, so that another edge makes the same."""

    def __init__(self, new_id: NewId) -> None:
        super().__init__(new_id)
        self.seed = new_id("seed")
        """What the ids of this session are made from."""
        self.place = Place()
        self.journal: Journal | None = None

    def id_of(self, prefix: str, key: str) -> str:
        return f"{prefix}_{sha256(f'{self.seed} {prefix} {key}'.encode()).hexdigest()[:20]}"

    def event(self, kind: str, **fields: Any) -> str:
        journal = self.journal
        if journal is None:  # the session was not started
            return super().event(kind, **fields)
        name, chars = f"{kind} {_subject(fields)}", 0
        if kind.endswith(_DELTA):
            fields["delta"] = fields["delta"][journal.chars(name, 0, len(fields["delta"])) :]
            if not (chars := len(fields["delta"])):
                return ""
        elif journal.has(name):
            return ""
        self.place = self.place._replace(number=journal.sent(name, 0, chars))
        return self._write(kind, self.place.event_id, fields)

    def begin(self, turn: int, samples: int) -> None:
        again = turn == self.place.turn and not self._is_rebuilding
        if turn > self.place.turn or again:  # a reply that failed before it was made may have no turn
            self.place = self.place._replace(turn=turn, samples=samples)

    def audio(self, kind: str, samples: int, **fields: Any) -> str:
        if self._is_rebuilding:
            return ""
        self.place = self.place._replace(samples=samples)
        return self._write(kind, self.place.event_id, fields)

    def unnumbered(self, kind: str, **fields: Any) -> str:
        """An event that leaves the client where it is."""
        return self._write(kind, self.place.event_id, fields)

    @property
    def _is_rebuilding(self) -> bool:
        return self.journal is not None and self.journal.is_rebuilding


def _subject(fields: dict[str, Any]) -> str:
    """The id of what an event is about; empty for the session."""
    for name in ("item_id", "response_id"):
        if name in fields:
            return str(fields[name])
    for name in ("item", "response"):
        if name in fields:
            return str(fields[name]["id"])
    return ""
