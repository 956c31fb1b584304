"""Resuming a session: its token, and what the broker holds of it for the edge that goes on with it."""

import hashlib
import secrets
from dataclasses import dataclass

from services.edge.client.actions import Resume
from services.edge.conversation.rebuild import Entry
from shared.bus.bus import Bus
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import AudioChunk, History, ResumePoint, SessionResumed, SessionStarted
from shared.protocol.session import RATE_HZ, SessionSettings
from shared.protocol.streams import StreamKind

START = "0-0"
INPUT_ENTRIES = 200
"""Entries of the input in which the newest audio is looked for."""


def new_token(session: str) -> str:
    return f"{session}.{secrets.token_urlsafe(24)}"


def token_hash(token: str) -> str:
    """What the broker keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session that another connection has served."""

    id: str
    token: str
    points: list[ResumePoint]
    """The oldest first; the last one is where to go on from."""
    settings: SessionSettings
    history: History
    entries: list[Entry]
    """The entries of the log since that point."""
    whole: bool
    """Whether these entries are complete."""
    cursor: str
    """Id of the last of them, or of the point."""
    journal: list[Entry]
    """The newest entries of the stream of events: what the client was sent, and what it sent."""
    input_samples: int
    """Position at which the microphone goes on. The time without it counts as silence."""


async def take_session(bus: Bus, wish: Resume, line: str, protocol: str, rate_hz: int | None) -> SavedSession | None:
    """Let this line serve the session that the token belongs to. None: it is gone, or not to be resumed like this.

    `rate_hz`: the rate that it must have; None: any.

    Raises:
        BrokerGone: the broker does not answer.
    """
    session = wish.token.partition(".")[0]
    points = await bus.take_line(session, line, token_hash(wish.token))
    if not points or points[-1].protocol != protocol or rate_hz not in (None, points[-1].rate_hz):
        return None
    bus.channel("edge", session).publish(SessionResumed(line))
    known = [point for point in points if point.events <= wish.number] or points[:1]
    point = known[-1]
    entries = await bus.entries(StreamKind.OUT, session, point.cursor if point.cursor != START else "-")
    whole = bool(entries) and _begins_at(point.cursor, entries[0])
    entries = [entry for entry in entries if entry[0] != point.cursor]
    settings, history = await bus.settings_and_history(session)
    journal = await bus.entries(StreamKind.EVENTS, session)
    return SavedSession(
        id=session,
        token=wish.token,
        points=known,
        settings=settings,
        history=history,
        entries=entries,
        whole=whole,
        cursor=entries[-1][0] if entries else point.cursor,
        journal=journal,
        input_samples=await _input_samples(bus, session, points[-1]),
    )


def _begins_at(cursor: str, entry: Entry) -> bool:
    """Whether the log still has all entries after this one: it has been trimmed at its beginning, or not."""
    entry_id, _, frames = entry
    return any(isinstance(frame, SessionStarted) for frame in frames) if cursor == START else entry_id == cursor


async def _input_samples(bus: Bus, session: str, point: ResumePoint) -> int:
    """The number of the next sample of the microphone, as if it had gone on in silence."""
    for entry_id, _, frames in await bus.newest_entries(StreamKind.IN, session, INPUT_ENTRIES):
        ends = [frame.offset + len(frame.pcm) // 2 for frame in frames if isinstance(frame, AudioChunk)]
        if ends:
            silent_ms = max(0, bus.clock.now_ms() - milliseconds(entry_id))
            return max(ends) + silent_ms * RATE_HZ // 1000
    return point.input_samples
