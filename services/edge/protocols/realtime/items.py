"""The conversation as a Realtime client sees it: items in their order, and the keys under which the session keeps them.

Pure. The session's history keeps a client's item under the item's id, and the words of a turn under the turn's key.
"""

from dataclasses import dataclass
from typing import Any

from services.edge.protocols.realtime.wire import Refused

Item = dict[str, Any]
"""An item as it is sent to the client."""

MAX_CLIENT_ITEMS = 5000
"""Client's items in one conversation; a conversation that long fits no model."""
MAX_CLIENT_BYTES = 16 * 1024 * 1024
"""Client's items in one conversation together, as JSON. The session's history holds 512 K characters."""


def new_item(item_id: str, kind: str, status: str, **fields: Any) -> Item:
    return {"id": item_id, "object": "realtime.item", "type": kind, "status": status, **fields}


@dataclass(slots=True)
class Entry:
    """One item, and its place in the session."""

    item: Item
    key: str
    """The key under which the session's history keeps the item."""
    turn: int = 0
    """The turn that this item replies to; 0 if it is not a reply."""
    sent_ms: int = 0
    """Length of the audio sent so far."""
    from_ms: int = 0
    """Position in the turn's reply at which the item begins; above 0 after a false interruption."""
    client_bytes: int = 0
    """Length of a client's item as JSON; 0 for an item that the session made."""


class Conversation:
    """The items of one connection."""

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self._entries: dict[str, Entry] = {}
        self._order: list[str] = []
        self._client_items = 0
        self._client_bytes = 0

    def save(self) -> dict[str, Any]:
        """As JSON, which orjson makes of the entries too."""
        return {"id": self.id, "entries": [self._entries[item_id] for item_id in self._order]}

    def restore(self, saved: dict[str, Any]) -> None:
        self.id = saved["id"]
        for fields in saved["entries"]:
            entry = Entry(**fields)
            self.append(entry)
            self._client_items += entry.client_bytes > 0
            self._client_bytes += entry.client_bytes

    def find(self, item_id: Any) -> Entry | None:
        return self._entries.get(item_id) if type(item_id) is str else None

    def before(self, entry: Entry) -> str | None:
        """The id of the item before this one; None for the first."""
        # Search from the end: the item is the last one or close to it.
        for place in range(len(self._order) - 1, 0, -1):
            if self._order[place] == entry.item["id"]:
                return self._order[place - 1]
        return None

    def append(self, entry: Entry) -> str | None:
        """Put the entry at the end. Returns the id of the item before it."""
        before = self._order[-1] if self._order else None
        item_id = entry.item["id"]
        self._entries[item_id] = entry
        self._order.append(item_id)
        return before

    def create(self, entry: Entry, previous: Any) -> tuple[str | None, str | None]:
        """Put a client's item after the item `previous`; `root` is the front, None the end.

        Returns the id of the item before it, and the history key of the place: empty for the front, None for the end.

        Raises:
            Refused: the id is taken, the item before it does not exist, or there are too many.
        """
        item_id = entry.item["id"]
        if item_id in self._entries:
            message = f"Error adding item: an item with id '{item_id}' already exists."
            raise Refused(message, "item_create_duplicate_item_id", "item.id")
        if self._client_items >= MAX_CLIENT_ITEMS:
            raise Refused(f"Error adding item: more than {MAX_CLIENT_ITEMS} items.", "conversation_full", "item")
        if self._client_bytes + entry.client_bytes > MAX_CLIENT_BYTES:
            message = f"Error adding item: more than {MAX_CLIENT_BYTES} bytes of items."
            raise Refused(message, "conversation_full", "item")
        after: str | None
        if previous is None:
            place, before, after = len(self._order), self._order[-1] if self._order else None, None
        elif previous == "root":
            place, before, after = 0, None, ""
        else:
            found = self.find(previous)
            if found is None:
                message = "Error adding item: the previous item does not exist."
                raise Refused(message, "item_create_invalid_previous_item_id", "previous_item_id")
            place, before, after = self._order.index(previous) + 1, previous, found.key
        self._client_items += 1
        self._client_bytes += entry.client_bytes
        self._entries[item_id] = entry
        self._order.insert(place, item_id)
        return before, after

    def delete(self, item_id: Any) -> Entry:
        """Remove an item.

        Raises:
            Refused: there is no such item.
        """
        entry = self.find(item_id)
        if entry is None:
            message = "Error deleting item: the item does not exist."
            raise Refused(message, "item_delete_invalid_item_id", "item_id")
        del self._entries[item_id]
        self._order.remove(item_id)
        self._client_items -= entry.client_bytes > 0
        self._client_bytes -= entry.client_bytes
        return entry

    def has_call(self, call_id: str) -> bool:
        """Whether a function call with this `call_id` is in the conversation."""
        items = (self._entries[item_id].item for item_id in reversed(self._order))
        return any(item["type"] == "function_call" and item["call_id"] == call_id for item in items)
