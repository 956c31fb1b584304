"""Finds and deletes everything that the broker stores about one session."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from shared.bus.bus import Bus
from shared.protocol.streams import JOBS
from shared.protocol.turns import WHOLE_SESSION

BATCH = 500
ROLES = (*JOBS, "edge")
"""The processes that write dead letters."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How much is stored of a session."""

    keys: int = 0
    """Its audio, events, settings, checkpoint and history."""
    jobs: int = 0
    dead_letters: int = 0
    turn_records: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


async def delete_session(bus: Bus, session: str) -> Stored:
    """Delete what is stored about a session, and return how much that was. Workers stop work on it."""
    bus.stop(session, WHOLE_SESSION, 0)
    found = await find_session(bus, session, delete=True)
    bus.send(b"UNLINK", *bus.keys.of_session(session))
    return found


async def find_session(bus: Bus, session: str, *, delete: bool = False) -> Stored:
    """Return how much is stored about a session; with `delete`, delete all entries of shared streams."""
    keys = bus.keys
    dead = [key for role in ROLES for key in (keys.dead(role), keys.dead_content(role))]
    return Stored(
        keys=await bus.call(b"EXISTS", *keys.of_session(session)),
        jobs=sum([await _entries(bus, keys.jobs(stage), session, delete=delete) for stage in JOBS]),
        dead_letters=sum([await _entries(bus, key, session, delete=delete) for key in dead]),
        turn_records=await _entries(bus, keys.turns(), session, delete=delete),
    )


async def _entries(bus: Bus, key: bytes, session: str, *, delete: bool) -> int:
    """Count the entries of a stream that contain the session's id; with `delete`, delete them.

    An id is 128 random bits, and every encoding that Parley writes holds it as it is.
    """
    mark = session.encode()
    count = 0
    async for entry_id, fields in _read(bus, key):
        if any(mark in field for field in fields):
            count += 1
            if delete:
                bus.send(b"XDEL", key, entry_id)
    return count


async def _read(bus: Bus, key: bytes) -> AsyncIterator[tuple[bytes, list[bytes]]]:
    """Yield all entries of a stream, in batches: a single read would hold up the broker."""
    begin = b"-"
    while True:
        entries: list[Any] = await bus.call(b"XRANGE", key, begin, b"+", b"COUNT", BATCH)
        for entry_id, fields in entries:
            yield entry_id, fields or []
        if len(entries) < BATCH:
            return
        begin = b"(" + entries[-1][0]
