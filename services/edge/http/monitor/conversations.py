"""Past conversations, from the records of their turns: all turns of one, and a search over all of them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from services.edge.http.monitor.snapshot import Row, is_slow, turn_row
from shared.bus.bus import Bus
from shared.protocol.turn_record import TurnRecord

PAGE = 250
"""Records read at once: between two reads, the event loop serves the audio of the conversations."""
LISTED = 50
"""Most conversations in one answer."""


async def records(bus: Bus) -> AsyncIterator[tuple[str, TurnRecord]]:
    """All records that the broker keeps, the newest first."""
    before = "+"
    while page := await bus.turns(PAGE, before=before):
        for entry in reversed(page):
            yield entry
        before = page[0][0]


async def turns_of(bus: Bus, session: str) -> list[Row]:
    """The turns of one conversation, the oldest first."""
    found = [entry async for entry in records(bus) if entry[1].session == session]
    return [turn_row(*entry) for entry in reversed(found)]


async def search(bus: Bus, find: str, outcome: str, *, content: bool) -> dict[str, Any]:
    """The newest conversations with a turn of this outcome in which `find` was said, or whose id begins with `find`.

    An empty string matches every turn. `content`: what was said may be searched and shown.
    """
    wanted = find.strip().casefold()
    found: dict[str, Conversation] = {}
    searched = 0
    async for _, record in records(bus):
        searched += 1
        conversation = found.setdefault(record.session, Conversation(record.session, record.protocol, record.at_ms))
        conversation.add(record)
        by_text = content and wanted in f"{record.said}\n{record.reply}".casefold()
        if (by_text or record.session.startswith(wanted)) and outcome in ("", record.outcome):
            conversation.match = record
    matching = [one for one in found.values() if one.match is not None]
    return {
        "conversations": [one.row(content=content) for one in matching[:LISTED]],
        "count": len(matching),
        "searched_turns": searched,
        "masked": not content,
    }


@dataclass(slots=True)
class Conversation:
    """The turns of one conversation, added from the newest to the oldest."""

    id: str
    protocol: str
    last_ms: int
    """Broker's clock at the end of its newest turn."""
    first_ms: int = 0
    """The same of its oldest turn."""
    turns: int = 0
    slow: int = 0
    interrupted: int = 0
    failed: int = 0
    match: TurnRecord | None = None
    """The oldest turn that was searched; None if nothing is stored."""

    def add(self, record: TurnRecord) -> None:
        self.first_ms = record.at_ms
        self.turns += 1
        self.slow += is_slow(record)
        self.interrupted += record.outcome == "interrupted"
        self.failed += record.outcome == "failed"

    def row(self, *, content: bool) -> dict[str, Any]:
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "match"}
        said, reply = (self.match.said, self.match.reply) if content and self.match is not None else ("", "")
        return {**shown, "said": said, "reply": reply}
