"""What was said in a session, as the chat model is to see it. Written by the edge alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.edge.client.keys import reply_key, user_key
from shared.protocol.session import Message

LIMIT = 400
"""Messages kept; older ones are forgotten first."""
LIMIT_CHARS = 512 * 1024
"""Characters kept of them all, the newest message aside: the whole history travels as one entry of the broker's."""


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    message: Message


class Conversation:
    """Messages in order, each under a key."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def messages(self) -> Sequence[Message]:
        return [entry.message for entry in self._entries]

    def put(self, key: str, message: Message, after: str | None = None) -> None:
        """Add a message, or replace the one under this key where it stands. `after`: a key, "" for the front, None for the end."""
        entry = _Entry(key, message)
        at = self._find(key)
        if at is not None:
            self._entries[at] = entry
            return
        before = None if after is None else self._find(after)
        if after == "":
            self._entries.insert(0, entry)
        elif before is None:
            self._entries.append(entry)
        else:
            self._entries.insert(before + 1, entry)
        self._forget()

    def put_said(self, turn: int, message: Message) -> None:
        """Add what the person said in a turn, or replace it: before the reply to it, and before all later turns."""
        key = user_key(turn)
        for at, entry in enumerate(self._entries):
            if entry.key == key:
                break
            answers = entry.message.turn == turn and (entry.key == reply_key(turn) or bool(entry.message.calls))
            if entry.message.turn > turn or answers:
                self._entries.insert(at, _Entry(key, message))
                self._forget()
                return
        self.put(key, message)

    def has(self, key: str) -> bool:
        return self._find(key) is not None

    def remove(self, key: str) -> None:
        at = self._find(key)
        if at is not None:
            del self._entries[at]

    def clear(self) -> None:
        self._entries.clear()

    def _forget(self) -> None:
        """Forget the oldest messages beyond the limits."""
        del self._entries[:-LIMIT]
        over = sum(_length(entry.message) for entry in self._entries) - LIMIT_CHARS
        place = 0
        while over > 0 and place < len(self._entries) - 1:
            over -= _length(self._entries[place].message)
            place += 1
        del self._entries[:place]

    def _find(self, key: str) -> int | None:
        for at in range(len(self._entries) - 1, -1, -1):
            if self._entries[at].key == key:
                return at
        return None


def _length(message: Message) -> int:
    return len(message.text) + sum(len(call.arguments) for call in message.calls)
