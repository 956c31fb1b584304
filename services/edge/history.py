"""What was said in a session, as the chat model is to see it. Written by the edge alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.session import Message

LIMIT = 400
"""Messages kept; older ones are forgotten first."""


def user_key(turn: int) -> str:
    """The key of what the person said in this turn."""
    return f"user:{turn}"


def reply_key(turn: int) -> str:
    """The key of the reply to this turn."""
    return f"reply:{turn}"


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
        del self._entries[:-LIMIT]

    def remove(self, key: str) -> None:
        at = self._find(key)
        if at is not None:
            del self._entries[at]

    def cut(self, key: str, share: float) -> None:
        """Only this share, 0..1, of the message was heard: keep its whole words, marked as interrupted."""
        at = self._find(key)
        if at is not None:
            message = self._entries[at].message
            heard = replace(message, text=cut_text(message.text, share), interrupted=True)
            self._entries[at] = replace(self._entries[at], message=heard)

    def clear(self) -> None:
        self._entries.clear()

    def _find(self, key: str) -> int | None:
        for at in range(len(self._entries) - 1, -1, -1):
            if self._entries[at].key == key:
                return at
        return None


def cut_text(text: str, share: float) -> str:
    """The first `share`, 0..1, of a text, back to the last whole word."""
    if share >= 1:
        return text
    end = int(len(text) * max(0.0, share))
    if end < len(text) and not text[end].isspace():
        end = text.rfind(" ", 0, end) + 1
    return text[:end].rstrip()


def heard_text(sentences: Sequence[str], ends: Sequence[int], heard: int, sent: int) -> str:
    """What of a reply was heard: whole sentences up to `heard` samples, and the words of the one that was playing.

    `ends` says where the sentences that were sent whole end; the next one ends with what was sent.
    """
    parts: list[str] = []
    begin = 0
    for index, text in enumerate(sentences):
        end = ends[index] if index < len(ends) else max(sent, begin)
        if heard >= end and index < len(ends):
            parts.append(text)
        else:
            if end > begin and heard > begin:
                parts.append(cut_text(text, (heard - begin) / (end - begin)))
            break
        begin = end
    return " ".join(part for part in parts if part)
