"""The conversation of a session as the chat model sees it. Only the edge writes it. Pure."""

from collections.abc import Sequence

from services.edge.client.keys import reply_key, user_key
from shared.protocol.session import Message

LIMIT = 400
"""Messages kept; older ones are forgotten first."""
LIMIT_CHARS = 512 * 1024
"""Characters kept of them all, the newest message aside: the whole history travels as one entry of the broker's."""


class Conversation:
    """Messages in order, each under a key."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, Message]] = []
        self._chars = 0

    def messages(self) -> Sequence[Message]:
        return [message for _, message in self._entries]

    def keys(self) -> Sequence[str]:
        return [key for key, _ in self._entries]

    def put(self, key: str, message: Message, after: str | None = None) -> None:
        """Add a message, or replace the one under this key where it stands. `after`: a key, "" for the front, None for the end."""
        if (at := self._find(key)) is not None:
            self._chars += _length(message) - _length(self._entries[at][1])
            self._entries[at] = (key, message)
            return
        before = -1 if after == "" else self._find(after)
        self._insert(len(self._entries) if before is None else before + 1, key, message)

    def put_said(self, turn: int, message: Message) -> None:
        """Add what the person said in a turn, or replace it: before the reply to it, and before all later turns."""
        key = user_key(turn)
        for at, (other_key, other) in enumerate(self._entries):
            if other_key == key:
                break
            answers = other.turn == turn and (other_key == reply_key(turn) or bool(other.calls))
            if other.turn > turn or answers:
                self._insert(at, key, message)
                return
        self.put(key, message)

    def remove(self, key: str) -> None:
        if (at := self._find(key)) is not None:
            self._delete(slice(at, at + 1))

    def clear(self) -> None:
        self._delete(slice(None))

    def _insert(self, at: int, key: str, message: Message) -> None:
        """Add a message, and forget the oldest ones beyond the limits."""
        self._entries.insert(at, (key, message))
        self._chars += _length(message)
        self._delete(slice(0, max(0, len(self._entries) - LIMIT)))
        while self._chars > LIMIT_CHARS and len(self._entries) > 1:
            self._delete(slice(0, 1))

    def _delete(self, places: slice) -> None:
        self._chars -= sum(_length(message) for _, message in self._entries[places])
        del self._entries[places]

    def _find(self, key: str | None) -> int | None:
        return next((at for at in reversed(range(len(self._entries))) if self._entries[at][0] == key), None)


def _length(message: Message) -> int:
    return len(message.text) + sum(len(call.arguments) for call in message.calls)
