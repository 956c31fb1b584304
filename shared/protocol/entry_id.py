"""Ids of stream entries, `milliseconds-number`: the broker's clock, and the order within a stream. Pure."""

EntryId = bytes | str


def milliseconds(entry_id: EntryId) -> int:
    """The broker's clock when the entry was written."""
    return order(entry_id)[0]


def order(entry_id: EntryId) -> tuple[int, int]:
    """A key by which ids sort in the order of their entries."""
    ms, _, number = entry_id.partition(b"-") if isinstance(entry_id, bytes) else entry_id.partition("-")
    return int(ms), int(number or 0)
