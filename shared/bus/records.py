"""The broker's keys besides the session streams: settings, checkpoints and histories, turn records, cloned voices.

This file defines what each key and field holds and the order of writes.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

from shared.audio.voices import ClonedVoice, VoiceInfo
from shared.bus import scripts
from shared.bus.connection import ReplyCallback
from shared.bus.entries import Entries
from shared.observability import metrics
from shared.protocol.codec import BadFrame
from shared.protocol.frames import (
    History,
    ResumePoint,
    SessionEnded,
    SessionStarted,
    SettingsChanged,
    Summary,
    codec,
)
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import ENDED_TTL_S, MAXLEN, SESSION_TTL_S, TURNS_MAXLEN, StreamKind
from shared.protocol.turn_record import BadRecord, TurnRecord


class SessionState(Enum):
    """What the broker has of a session that its edge has begun."""

    WHOLE = "whole"
    UNHEARD = "unheard"
    """No vad worker has the session or will get it: its job is lost."""
    LOST = "lost"


class Records(Entries):
    """Reads and writes the records of sessions, turns and cloned voices."""

    # -- turns ------------------------------------------------------------------------------------

    def keep_turn(self, record: TurnRecord) -> None:
        """Add the record of a finished turn; records that are too old or too many are deleted."""
        self._keep(self.keys.turns(), TURNS_MAXLEN, (b"t", record.pack()), 3600 * self.keep_turns_h)

    async def turns(self, limit: int, after: str = "-", before: str = "+") -> list[tuple[str, TurnRecord]]:
        """Return id and record of the newest finished turns between these ids, at most `limit`, oldest first."""
        begin = after if after == "-" else f"({after}"
        end = before if before == "+" else f"({before}"
        entries = await self.call(b"XREVRANGE", self.keys.turns(), end, begin, b"COUNT", limit)
        records = []
        for entry_id, fields in reversed(entries):
            try:
                records.append((entry_id.decode(), TurnRecord.unpack(fields[1])))
            except BadRecord:
                metrics.bad_frames.labels(self.role).inc()
        return records

    # -- sessions ---------------------------------------------------------------------------------

    def save_settings(self, session: str, settings: SessionSettings) -> None:
        packed = codec.entry([codec.encode(SettingsChanged(settings))])
        self.send(b"HSET", self.keys.session(session), b"settings", packed)

    async def conversation(self, session: str) -> tuple[SessionSettings, tuple[Message, ...]]:
        """Return the session's settings (the defaults if they are missing or invalid) and its history, in one round trip."""
        settings, history = await self.settings_and_history(session)
        return settings, history.messages

    async def settings_and_history(self, session: str) -> tuple[SessionSettings, History]:
        """As `conversation`, with the keys of the messages."""
        loop = asyncio.get_running_loop()
        settings: asyncio.Future[Any] = loop.create_future()
        self.send(b"HGET", self.keys.session(session), b"settings", on_reply=settings.set_result)
        history = await self.call(b"GET", self.keys.history(session))
        found = None if history is None else self.decode(self.keys.history(session), b"0-0", [b"f", history])
        frame = found[1][0] if found and found[1] else None
        return _unpack_settings(settings.result()), frame if isinstance(frame, History) else History(())

    async def summary(self, session: str) -> Summary | None:
        """Return the summary of the session's conversation; None before the first one."""
        key = self.keys.session(session)
        packed = await self.call(b"HGET", key, b"summary")
        found = self.decode(key, b"0-0", [b"f", packed]) if packed else None
        frame = found[1][0] if found and found[1] else None
        return frame if isinstance(frame, Summary) else None

    def save_summary(self, session: str, summary: Summary) -> None:
        """Replace the summary of the session's conversation. The key of a session that has ended expires again."""
        key = self.keys.session(session)
        self.send(b"HSET", key, b"summary", codec.entry([codec.encode(summary)]))
        self.send(b"EXPIRE", key, SESSION_TTL_S)

    async def checkpoint(self, session: str) -> bytes | None:
        """Return the latest checkpoint of the session's vad worker; None before the first one."""
        found: bytes | None = await self.call(b"HGET", self.keys.session(session), b"checkpoint")
        return found

    async def session_lives(self, session: str) -> bool:
        """Return whether the session's keys exist: its edge has sent a keep-alive within `SESSION_TTL_S`. The preview of a voice
        has only a log."""
        keys = (self.keys.session(session), self.keys.stream(StreamKind.OUT, session))
        return bool(await self.call(b"EXISTS", *keys))

    # -- the line that serves a session -----------------------------------------------------------

    def open_line(self, session: str, line: str, token_hash: str) -> None:
        """This line serves the session until another one takes it with the token."""
        self.send(b"HSET", self.keys.session(session), b"line", line, b"token", token_hash)

    def save_resume_points(self, session: str, points: Sequence[ResumePoint]) -> None:
        """Replace the session's resume points, the oldest first."""
        packed = codec.entry([codec.encode(point) for point in points])
        self.send(b"HSET", self.keys.session(session), b"resume_points", packed)

    async def take_line(self, session: str, line: str, token_hash: str) -> list[ResumePoint]:
        """Let this line serve the session from now on. Returns its resume points; an empty list if the session
        is gone, or the token belongs to another one."""
        key = self.keys.session(session)
        packed = await self.call_script(scripts.TAKE_LINE, [key], [token_hash, line, SESSION_TTL_S])
        found = self.decode(key, b"0-0", [b"f", packed]) if packed else None
        return [frame for frame in found[1] if isinstance(frame, ResumePoint)] if found else []

    def end_line(self, session: str, line: str, reason: str, on_reply: ReplyCallback) -> None:
        """End the session unless another line has taken it; the reply is whether it has ended."""
        body = codec.entry([codec.encode(SessionEnded(reason))])
        into, speech, out, *others = self.keys.of_session(session)
        keys = [self.keys.session(session), into, out, speech, *others]
        self.send_script(scripts.END_LINE, keys, [line, body, ENDED_TTL_S], on_reply)

    def expire_soon(self, session: str) -> None:
        """The session has ended: its keys are needed only until its vad worker has read that."""
        for key in self.keys.of_session(session):
            self.send(b"EXPIRE", key, ENDED_TTL_S)

    def forget(self, session: str) -> None:
        """Delete the keys of a session that cannot be resumed any more."""
        self.send(b"UNLINK", *self.keys.of_session(session))

    def keep_alive(self, session: str) -> None:
        """Extend the life of the session's keys by `SESSION_TTL_S`."""
        for key in self.keys.of_session(session):
            self.send(b"EXPIRE", key, SESSION_TTL_S)

    def request_listener(self, started: SessionStarted) -> None:
        """Give the session to a vad worker."""
        keys = (self.keys.jobs("vad"), self.keys.session(started.session))
        body = codec.entry([codec.encode(started)])
        self.send_script(scripts.LISTEN, keys, (MAXLEN[StreamKind.JOBS_VAD], body), lambda reply: None)

    def check_alive(self, session: str, on_state: Callable[[SessionState], None]) -> None:
        """As `keep_alive`, for a session that has been kept alive before; `on_state` takes what the broker has of it."""

        def on_reply(reply: Any) -> None:
            if isinstance(reply, bytes):
                on_state(SessionState(reply.decode()))

        log = self.keys.stream(StreamKind.OUT, session)
        hash_ = self.keys.session(session)
        others = [key for key in self.keys.of_session(session) if key not in (log, hash_)]
        keys = (self.keys.jobs("vad"), hash_, log, *others)
        self.send_script(scripts.KEEP_ALIVE, keys, ("vad", SESSION_TTL_S), on_reply)

    # -- client secrets ---------------------------------------------------------------------------

    async def keep_secret(self, digest: str, packed: bytes, expires_s: int) -> None:
        """Keep what the holder of a client secret may do until it expires (seconds since 1970)."""
        await self.call(b"SET", self.keys.secret(digest), packed, b"EXAT", expires_s)

    async def secret(self, digest: str) -> bytes | None:
        """Return what the holder of a client secret may do; None if the secret does not exist or has expired."""
        packed: bytes | None = await self.call(b"GET", self.keys.secret(digest))
        return packed

    async def use_secret(self, digest: str, expires_s: int) -> int:
        """Count a session of a client secret. Returns how many there were, this one included."""
        key = self.keys.secret_uses(digest)
        uses: int = await self.call(b"INCR", key)
        self.send(b"EXPIREAT", key, expires_s)
        return uses

    # -- cloned voices ----------------------------------------------------------------------------

    async def put_voice(self, voice: ClonedVoice, *, replace: bool) -> bool:
        """Save a cloned voice for all workers. Return False if the name is taken and `replace` is false."""
        before = await self.voice_info(voice.name)
        if before == voice.info:
            return True
        # The recording first: whenever the metadata exists, so does the recording.
        await self.call(b"HSET", self.keys.recordings(), voice.info.digest, voice.pcm)
        put = b"HSET" if replace else b"HSETNX"
        added = await self.call(put, self.keys.voices(), voice.name, voice.info.pack())
        if not replace and not added:
            if await self.voice_info(voice.name) == voice.info:
                return True  # the same request at the same time
            await self.call(b"HDEL", self.keys.recordings(), voice.info.digest)
            return False
        if before is not None:
            await self.call(b"HDEL", self.keys.recordings(), before.digest)
        return True

    async def voices(self) -> dict[str, VoiceInfo]:
        """Return the metadata of all cloned voices, sorted by name."""
        fields = await self.call(b"HGETALL", self.keys.voices())
        found = (self._unpack_voice(packed) for packed in fields[1::2])
        return {info.name: info for info in sorted(filter(None, found), key=lambda info: info.name)}

    async def voice(self, name: str, known: ClonedVoice | None = None) -> ClonedVoice | None:
        """Return a cloned voice, or None if it does not exist; `known` itself if it is still current."""
        for _ in range(2):  # it may be replaced between the two reads
            info = await self.voice_info(name)
            if info is None:
                return None
            if known is not None and known.info == info:
                return known
            pcm = await self.call(b"HGET", self.keys.recordings(), info.digest)
            if pcm is not None:
                return ClonedVoice(info, pcm)
        return None

    async def drop_voice(self, name: str) -> bool:
        """Delete a cloned voice. Return False if no voice has that name."""
        info = await self.voice_info(name)
        dropped = bool(await self.call(b"HDEL", self.keys.voices(), name))
        if info is not None:
            await self.call(b"HDEL", self.keys.recordings(), info.digest)
        return dropped

    async def voice_info(self, name: str) -> VoiceInfo | None:
        """Return the metadata of a cloned voice; None if no voice has that name, or it cannot be read."""
        packed = await self.call(b"HGET", self.keys.voices(), name)
        return None if packed is None else self._unpack_voice(packed)

    def _unpack_voice(self, packed: bytes) -> VoiceInfo | None:
        try:
            return VoiceInfo.unpack(packed)
        except ValueError:
            metrics.bad_frames.labels(self.role).inc()
            return None


def _unpack_settings(packed: bytes | None) -> SessionSettings:
    with suppress(BadFrame):
        if packed is not None:
            for frame in codec.decode_entry(packed):
                if isinstance(frame, SettingsChanged):
                    return frame.settings
    return SessionSettings()
