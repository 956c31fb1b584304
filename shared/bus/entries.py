"""Entries of streams: their frames, and what becomes of those that cannot be used."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from shared.bus.commands import Commands
from shared.observability import metrics
from shared.protocol.codec import BadFrame
from shared.protocol.frames import Frame, codec
from shared.protocol.streams import DEAD_MAXLEN, SESSION_TTL_S, StreamKind
from shared.settings import Settings

log = structlog.get_logger()

UNKNOWN_TAGS = 20
"""Kinds of unknown frames that are logged, each once."""

Entry = tuple[str, int, list[Frame]]
"""Id, fence and frames of an entry."""


class Entries(Commands):
    """Reads and decodes entries. Bad ones become dead letters."""

    def __init__(self, settings: Settings, role: str) -> None:
        super().__init__(role)
        self.keep_turns_h = settings.keep_turns_h
        self._content_s = 3600 * settings.keep_turns_h if settings.log_content else 0
        self._unknown_tags: set[str] = set()

    def decode(self, key: bytes, entry_id: bytes, fields: Any) -> tuple[int, list[Frame]] | None:
        """Return an entry's fence and frames; None for a bad entry, which is counted and dead-lettered."""
        if fields is None:
            return None  # trimmed before it was read
        body = b""
        try:
            if len(fields) == 2 and fields[0] == b"f":  # nearly all entries
                body, fence = fields[1], 1
            else:
                values = dict(zip(fields[::2], fields[1::2], strict=False))
                body, fence = values[b"f"], int(values.get(b"n", 1))
            return fence, codec.decode_entry(body, self._on_unknown_frame)
        except (BadFrame, KeyError, ValueError) as error:
            metrics.bad_frames.labels(self.role).inc()
            reason = str(error) if isinstance(error, BadFrame) else "an entry without frames"
            self.dead_letter(self.role, key, entry_id.decode(), body, reason)
            return None

    def _on_unknown_frame(self, tag: str) -> None:
        if tag not in self._unknown_tags and len(self._unknown_tags) < UNKNOWN_TAGS:
            self._unknown_tags.add(tag)
            log.warning("unknown frames ignored", tag=tag, hint="a later release wrote them: update this process, too")

    async def log(self, kind: StreamKind, session: str) -> list[tuple[int, list[Frame]]]:
        """Return fence and frames of each entry of a session's stream."""
        return [(fence, frames) for _, fence, frames in await self.entries(kind, session)]

    async def entries(self, kind: StreamKind, session: str, begin: str = "-") -> list[Entry]:
        """Return id, fence and frames of each entry of a session's stream, from the id `begin` on."""
        key = self.keys.stream(kind, session)
        return self._decoded(key, await self.call(b"XRANGE", key, begin, b"+"))

    async def newest_entries(self, kind: StreamKind, session: str, count: int) -> list[Entry]:
        """Return the newest entries of a session's stream, the newest first."""
        key = self.keys.stream(kind, session)
        return self._decoded(key, await self.call(b"XREVRANGE", key, b"+", b"-", b"COUNT", count))

    def _decoded(self, key: bytes, entries: Sequence[tuple[bytes, Any]]) -> list[Entry]:
        decoded = ((entry_id.decode(), self.decode(key, entry_id, fields)) for entry_id, fields in entries)
        return [(entry_id, *found) for entry_id, found in decoded if found is not None]

    async def raw_log(
        self, kind: StreamKind, session: str, after: str, limit: int
    ) -> list[tuple[bytes, list[bytes]]] | None:
        """Return id and fields of the newest entries after `after` ("-": of all), oldest first; None without a stream.

        The entries are not decoded: bad ones are not dead-lettered.
        """
        key = self.keys.stream(kind, session)
        begin = after if after == "-" else f"({after}"
        entries = await self.call(b"XREVRANGE", key, b"+", begin, b"COUNT", limit)
        if not entries and not await self.call(b"EXISTS", key):
            return None
        return [(entry_id, fields) for entry_id, fields in reversed(entries)]

    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None:
        """Move an unusable entry to the stage's dead letters, with its stream, its id, its session and the error.

        Its bytes are kept in a stream of their own, and only as long as a session's keys: they hold what somebody said.
        """
        named = (b"id", entry_id, b"session", _session_of(source, body))
        facts, content = (b"stream", source, *named, b"error", error), (*named, b"body", body[:65_536])
        self._keep(self.keys.dead(stage), DEAD_MAXLEN, facts, 3600 * self.keep_turns_h)
        self._keep(self.keys.dead_content(stage), DEAD_MAXLEN, content, self._content_s or SESSION_TTL_S)

    def _keep(self, key: bytes, maxlen: int, fields: Sequence[str | bytes], keep_s: int) -> None:
        """Append an entry to a stream of which no entry is kept for longer than `keep_s`."""
        self.send(b"XADD", key, b"MAXLEN", b"~", maxlen, b"*", *fields)
        self.send(b"XTRIM", key, b"MINID", max(0, self.clock.now_ms() - 1000 * keep_s))
        self.send(b"EXPIRE", key, keep_s)


def _session_of(source: bytes, body: bytes) -> str:
    """Return the session that an entry belongs to; empty if that is not known."""
    with suppress(BadFrame):
        for frame in codec.decode_entry(body):
            if session := getattr(frame, "session", ""):
                return str(session)
    return source.rpartition(b":")[2].decode(errors="replace")
