"""What the broker keeps beside the streams: a session's settings, checkpoint and history, and cloned voices.

Which key and field holds what, and in what order they are written. It knows no connection: the three things that it
is written on, a command, its reply and the reading of an entry, come from the bus (`shared/bus/bus.py`), which is one.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from shared.audio.voices import ClonedVoice, VoiceInfo
from shared.observability import metrics
from shared.protocol.codec import BadFrame
from shared.protocol.frames import Frame, History, SettingsChanged, codec
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import SESSION_TTL_S, TURNS_MAXLEN, Keys
from shared.protocol.turn_record import BadRecord, TurnRecord


class Records(ABC):
    """Records of sessions and of cloned voices, on what runs commands in order."""

    keys: Keys
    role: str

    @abstractmethod
    def send(self, *args: str | bytes | int | float, on_reply: Callable[[Any], None] | None = None) -> None:
        """A command; `on_reply` takes its reply."""

    @abstractmethod
    async def call(self, *args: str | bytes | int | float) -> Any:
        """A command, and its reply."""

    @abstractmethod
    def decode(self, key: bytes, entry_id: bytes, fields: Any) -> tuple[int, list[Frame]] | None:
        """Fence and frames of an entry; None for one that is bad."""

    # -- turns ------------------------------------------------------------------------------------

    def keep_turn(self, record: TurnRecord) -> None:
        """Keep a record of a turn that is over; the oldest of all sessions' are dropped."""
        self.send(b"XADD", self.keys.turns(), b"MAXLEN", b"~", TURNS_MAXLEN, b"*", b"t", record.pack())

    async def turns(self, most: int, after: str = "-") -> list[tuple[str, TurnRecord]]:
        """Id and record of the newest turns that are over, the oldest of them first; `after`: an id, exclusive."""
        begin = after if after == "-" else f"({after}"
        found = []
        for entry_id, fields in reversed(await self.call(b"XREVRANGE", self.keys.turns(), b"+", begin, b"COUNT", most)):
            try:
                found.append((entry_id.decode(), TurnRecord.unpack(fields[1])))
            except BadRecord:
                metrics.bad_frames.labels(self.role).inc()
        return found

    # -- sessions ---------------------------------------------------------------------------------

    def save_settings(self, session: str, settings: SessionSettings, packed: bytes) -> None:
        self.send(b"HSET", self.keys.session(session), b"settings", packed)

    def save_history(self, session: str, messages: Sequence[Message]) -> None:
        body = codec.entry([codec.encode(History(tuple(messages)))])
        self.send(b"SET", self.keys.history(session), body, b"EX", SESSION_TTL_S)

    async def conversation(self, session: str) -> tuple[bytes | None, tuple[Message, ...]]:
        """The session's packed settings, and what was said in it, in one round trip."""
        loop = asyncio.get_running_loop()
        settings: asyncio.Future[Any] = loop.create_future()
        self.send(b"HGET", self.keys.session(session), b"settings", on_reply=settings.set_result)
        history = await self.call(b"GET", self.keys.history(session))
        packed = settings.result()
        if history is None:
            return packed, ()
        key = self.keys.history(session)
        found = self.decode(key, b"0-0", [b"f", history])
        frame = found[1][0] if found else None
        return packed, frame.messages if isinstance(frame, History) else ()

    async def checkpoint(self, session: str) -> bytes | None:
        """What the session's vad worker saved last."""
        found: bytes | None = await self.call(b"HGET", self.keys.session(session), b"checkpoint")
        return found

    async def session_lives(self, session: str) -> bool:
        return bool(await self.call(b"EXISTS", self.keys.session(session)))

    def forget(self, session: str) -> None:
        """Nobody will ask for this session again: its keys go now."""
        self.send(b"UNLINK", *self.keys.of_session(session))

    def keep_alive(self, session: str) -> None:
        """A sign of life: the session's keys last for another while."""
        for key in self.keys.of_session(session):
            self.send(b"EXPIRE", key, SESSION_TTL_S)

    # -- cloned voices ----------------------------------------------------------------------------

    async def put_voice(self, voice: ClonedVoice, *, replace: bool) -> bool:
        """Give a cloned voice to all workers. False: there is another of that name, and it was not to be replaced."""
        before = await self.voice_info(voice.name)
        if before == voice.info:
            return True
        # The recording first: who finds the voice finds its sound.
        await self.call(b"HSET", self.keys.recordings(), voice.info.digest, voice.pcm)
        put = b"HSET" if replace else b"HSETNX"
        added = await self.call(put, self.keys.voices(), voice.name, voice.info.pack())
        if not replace and not added:
            if await self.voice_info(voice.name) == voice.info:
                return True  # the same request, twice at once
            await self.call(b"HDEL", self.keys.recordings(), voice.info.digest)
            return False
        if before is not None:
            await self.call(b"HDEL", self.keys.recordings(), before.digest)
        return True

    async def voices(self) -> dict[str, VoiceInfo]:
        """All cloned voices, by name in order."""
        fields = await self.call(b"HGETALL", self.keys.voices())
        found = (self._unpack_voice(packed) for packed in fields[1::2])
        return {info.name: info for info in sorted(filter(None, found), key=lambda info: info.name)}

    async def voice(self, name: str, known: ClonedVoice | None = None) -> ClonedVoice | None:
        """A cloned voice with its sound; the one that is known already, where it is still the same."""
        for _ in range(2):  # it may be replaced between its two parts
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
        """Take a cloned voice from all workers. False: there was none."""
        info = await self.voice_info(name)
        dropped = bool(await self.call(b"HDEL", self.keys.voices(), name))
        if info is not None:
            await self.call(b"HDEL", self.keys.recordings(), info.digest)
        return dropped

    async def voice_info(self, name: str) -> VoiceInfo | None:
        """All of a cloned voice but its sound."""
        packed = await self.call(b"HGET", self.keys.voices(), name)
        return None if packed is None else self._unpack_voice(packed)

    def _unpack_voice(self, packed: bytes) -> VoiceInfo | None:
        try:
            return VoiceInfo.unpack(packed)
        except ValueError:
            metrics.bad_frames.labels(self.role).inc()
            return None


def pack_settings(settings: SessionSettings) -> bytes:
    """Settings as they lie in the session's hash."""
    return codec.entry([codec.encode(SettingsChanged(settings))])


def unpack_settings(packed: bytes | None) -> SessionSettings:
    """Settings from the session's hash; the defaults where there are none to be read."""
    with suppress(BadFrame):
        if packed is not None:
            frame = codec.decode_entry(packed)[0]
            if isinstance(frame, SettingsChanged):
                return frame.settings
    return SessionSettings()
