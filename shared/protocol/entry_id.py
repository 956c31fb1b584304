"""Ids of stream entries, `milliseconds-number`: the broker's clock and the order within a stream. Pure."""

EntryId = bytes | str


def milliseconds(entry_id: EntryId) -> int:
    """Return the broker's clock, in ms since 1970, when the entry was written."""
    return order(entry_id)[0]


def order(entry_id: EntryId) -> tuple[int, int]:
    """Return a key that sorts ids in the order of their entries."""
    ms, _, number = entry_id.partition(b"-") if isinstance(entry_id, bytes) else entry_id.partition("-")
    return int(ms), int(number or 0)
