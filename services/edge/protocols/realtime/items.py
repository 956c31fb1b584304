"""The conversation as a Realtime client sees it: items in their order, and the keys under which the session keeps them.

Pure. An item that a client made is kept in the history under its own id; what was said in a turn is kept under the
key that the history gives the turn.
"""

from dataclasses import dataclass
from typing import Any

from services.edge.protocols.fields import MAX_INSTRUCTIONS, BadField, string
from services.edge.protocols.realtime.wire import Refused

Item = dict[str, Any]

MAX_CLIENT_ITEMS = 5000
"""Items that one client may create; a conversation that long fits no model."""
MAX_ID = 128
MAX_OUTPUT_BYTES = 256 * 1024
"""What one tool may answer."""

_TEXT_PARTS = {
    "user": {"input_text": "text", "input_audio": "transcript"},
    "system": {"input_text": "text"},
    "assistant": {"output_text": "text", "output_audio": "transcript", "text": "text"},
}
"""For each role the content parts that can be read, and the field of each that holds words."""


@dataclass(slots=True)
class Entry:
    """One item and what Parley knows of it."""

    item: Item
    key: str
    """Under which the session's history keeps it."""
    turn: int = 0
    """The turn whose reply this is; 0 for everything that is no reply."""
    sent_ms: int = 0
    """Length of the item's audio so far."""
    from_ms: int = 0
    """Where in the turn's reply it begins: above 0 if that went on after an interruption that was none."""


class Conversation:
    """The items of one connection."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._order: list[str] = []
        self._made_by_client = 0

    def find(self, item_id: Any) -> Entry | None:
        """The entry, if there is one."""
        return self._entries.get(item_id) if type(item_id) is str else None

    def before(self, entry: Entry) -> str | None:
        """The id of the item before it."""
        # Looked for from the end: it is the last one or nearly so.
        for place in range(len(self._order) - 1, 0, -1):
            if self._order[place] == entry.item["id"]:
                return self._order[place - 1]
        return None

    def append(self, entry: Entry) -> str | None:
        """Put it at the end; returns the id of the item before it."""
        before = self._order[-1] if self._order else None
        item_id = entry.item["id"]
        self._entries[item_id] = entry
        self._order.append(item_id)
        return before

    def create(self, entry: Entry, previous: Any) -> tuple[str | None, str | None]:
        """Put a client's item where it wants it: `root` is the front, None the end.

        Returns the id of the item before it, and the history key of the place: empty for the front, None for the end.

        Raises:
            Refused: the id is taken, the item before it does not exist, or there are too many.
        """
        item_id = entry.item["id"]
        if item_id in self._entries:
            message = f"Error adding item: an item with id '{item_id}' already exists."
            raise Refused(message, "item_create_duplicate_item_id", "item.id")
        if self._made_by_client >= MAX_CLIENT_ITEMS:
            raise Refused(f"Error adding item: more than {MAX_CLIENT_ITEMS} items.", "conversation_full", "item")
        if previous is None:
            self._made_by_client += 1
            return self.append(entry), None
        if previous == "root":
            place, before, after = 0, None, ""
        else:
            found = self.find(previous)
            if found is None:
                message = "Error adding item: the previous item does not exist."
                raise Refused(message, "item_create_invalid_previous_item_id", "previous_item_id")
            place, before, after = self._order.index(previous) + 1, previous, found.key
        self._made_by_client += 1
        self._entries[item_id] = entry
        self._order.insert(place, item_id)
        return before, after

    def delete(self, item_id: Any) -> Entry:
        """Take it out.

        Raises:
            Refused: no such item.
        """
        entry = self.find(item_id)
        if entry is None:
            message = "Error deleting item: the item does not exist."
            raise Refused(message, "item_delete_invalid_item_id", "item_id")
        del self._entries[item_id]
        self._order.remove(item_id)
        return entry

    def has_call(self, call_id: str) -> bool:
        """Whether a call of a function with this id is in the conversation."""
        items = (self._entries[item_id].item for item_id in reversed(self._order))
        return any(item["type"] == "function_call" and item["call_id"] == call_id for item in items)


def client_item(raw: Any, new_id: str) -> Item:
    """A client's item as it is told back: complete, and of known fields only.

    Raises:
        BadField: a field of the wrong type.
        Refused: a kind of item or of content that cannot be taken.
    """
    if type(raw) is not dict:
        raise BadField("item", raw, "an object")
    item_id = raw.get("id")
    if item_id is None:
        item_id = new_id
    elif not string("item.id", item_id, MAX_ID):
        raise BadField("item.id", item_id, "an id")
    head = {"id": item_id, "object": "realtime.item", "type": raw.get("type"), "status": "completed"}
    match raw.get("type"):
        case "message":
            role = raw.get("role")
            if type(role) is not str or role not in _TEXT_PARTS:
                raise BadField("item.role", role, f"one of {', '.join(_TEXT_PARTS)}")
            return {**head, "role": role, "content": _content(raw.get("content"), role)}
        case "function_call":
            call_id = raw.get("call_id")
            return {
                **head,
                "name": string("item.name", raw.get("name"), MAX_ID),
                "call_id": item_id if call_id is None else string("item.call_id", call_id, MAX_ID),
                "arguments": string("item.arguments", raw.get("arguments"), MAX_INSTRUCTIONS),
            }
        case "function_call_output":
            return {
                **head,
                "call_id": string("item.call_id", raw.get("call_id"), MAX_ID),
                "output": _output(raw.get("output")),
            }
        case other:
            raise BadField("item.type", other, "one of message, function_call, function_call_output")


def _output(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_OUTPUT_BYTES or len(value.encode()) > MAX_OUTPUT_BYTES:
        raise BadField("item.output", value, f"a string of at most {MAX_OUTPUT_BYTES} bytes")
    return value


def _content(raw: Any, role: str) -> list[dict[str, Any]]:
    if type(raw) is not list or not 0 < len(raw) <= 64:
        raise BadField("item.content", raw, "an array of 1 to 64 parts")
    parts = []
    for index, part in enumerate(raw):
        path = f"item.content[{index}]"
        if type(part) is not dict:
            raise BadField(path, part, "an object")
        kind = part.get("type")
        words = _TEXT_PARTS[role].get(kind) if type(kind) is str else None
        if words is None:
            raise BadField(f"{path}.type", kind, f"one of {', '.join(_TEXT_PARTS[role])} in a message of the {role}")
        if kind == "input_audio" and not part.get("transcript"):
            message = "Audio in conversation.item.create is not supported without its transcript."
            raise Refused(message, "unsupported_content", path)
        shown = "output_text" if kind == "text" else kind
        parts.append({"type": shown, words: string(f"{path}.{words}", part.get(words), MAX_INSTRUCTIONS)})
    return parts


def words_of(item: Item) -> str:
    """What is said in a message."""
    parts = (_TEXT_PARTS[item["role"]][part["type"]] for part in item["content"])
    return "\n".join(part[field] for part, field in zip(item["content"], parts, strict=True))
