"""The bus: one process's connection to the broker, its streams and its keys.

A `Bus` is one generation of connections. It does not mend itself: when any of its connections breaks,
everything that runs inside it ends with `BrokerGone`, and `shared/lifecycle.py` begins a new one. What
was in flight is then unknown, and the design stands that: readers know offsets, leases come back.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import msgpack
import redis.asyncio as redis
from redis.asyncio.connection import parse_url

from shared import metrics, scripts
from shared.codec import BadFrame
from shared.frames import Frame, History, codec
from shared.session import Message, SessionSettings
from shared.settings import Settings
from shared.streams import DEAD_KEEP, KEEP, ROUTES, SESSION_TTL_S, Keys, Place
from shared.voices import ClonedVoice, VoiceInfo
from shared.wire import Address, BrokerGone, BrokerRefused, Pipe

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)
BLOCK_MS = 1000
READ_COUNT = 256
PACED_COUNT = 8
"""A read that brought so many entries is followed by the whole pause, one that brought fewer by its share."""
GATHER_BYTES = 64 * 1024

Deliver = Callable[[str, int, list[Frame]], None]
"""Takes the entry's id, its fence and its frames."""
OnStop = Callable[[str, int, int, bool], None]
"""Takes a session, the lowest (turn, revision) of it that still counts, and whether that is said of this turn alone."""


class Subscription:
    """A stream that is being followed; entries come in order to `deliver`, on the event loop."""

    __slots__ = ("_bus", "deliver", "key", "last_id")

    def __init__(self, bus: "Bus", key: bytes, last_id: bytes, deliver: Deliver) -> None:
        self._bus, self.key, self.last_id, self.deliver = bus, key, last_id, deliver

    def close(self) -> None:
        self._bus.unfollow(self)


class Channel:
    """Where one stage's frames about one session go, by the table of routes."""

    __slots__ = ("_bus", "_session", "_stage", "_targets", "fence")

    def __init__(self, bus: "Bus", stage: str, session: str, fence: int) -> None:
        self._bus, self._stage, self._session, self.fence = bus, stage, session, fence
        self._targets: dict[type[Frame], list[tuple[bytes, int]]] = {}

    def targets(self, kind: type[Frame]) -> list[tuple[bytes, int]]:
        """(key, keep) of each stream; a negative keep appends only to a stream that is there.

        Raises:
            KeyError: this stage has no business with such a frame.
        """
        found = self._targets.get(kind)
        if found is None:
            bound = self._stage != "edge"  # the edge makes a session's log; nobody else brings it back after its end
            found = self._targets[kind] = [
                (
                    self._bus.keys.stream(place, self._session),
                    -KEEP[place] if bound and place is Place.OUT else KEEP[place],
                )
                for place in ROUTES[self._stage][kind]
            ]
        return found

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        """Append the frame to its streams: in this turn of the event loop, or (not urgent) within the gather time."""
        packed = codec.encode(frame)
        for key, keep in self.targets(type(frame)):
            self._bus.append(key, keep, packed, self.fence, urgent=urgent)


class Bus:
    """Streams and keys of one process, for as long as its connections live."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.keys = Keys(settings.shards)
        self.role = role
        self.consumer = f"{role}:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        """Unique to this connection generation: two of them never share a pending list."""
        self.address, self._url = parse_address(settings)
        self._pace_s = settings.read_pace_ms / 1000
        self._gather_s = settings.gather_ms / 1000
        self._subscriptions: dict[bytes, list[Subscription]] = {}
        self._blocked = False
        self._tail: tuple[bytes, int, int] | None = None
        self._tail_frames: list[bytes] = []
        self._tail_bytes = 0
        self._shas: dict[str, bytes] = {}
        self._tasks: asyncio.TaskGroup
        self._pipes: list[Pipe] = []
        self._background: list[asyncio.Task[None]] = []
        self.writer: Pipe
        self._reader: Pipe

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings, role: str) -> AsyncIterator["Bus"]:
        """Connect; while the context lasts, the streams that are followed are read.

        Raises:
            BrokerGone: there is no broker (alone, or in a group with what else ended because of it).
            BrokerRefused: it is too old, or does not let us in.
        """
        bus = cls(settings, role)
        try:
            async with asyncio.TaskGroup() as tasks:
                bus._tasks = tasks
                bus.writer = await bus.open_pipe(gather_s=bus._gather_s)
                bus.writer.before_flush = bus._seal
                await check_version(bus.writer)
                for script in (scripts.COMMIT, scripts.RENEW, scripts.SWEEP, scripts.HEARTBEAT, scripts.STATUS):
                    bus._shas[script] = await bus.writer.call("SCRIPT", "LOAD", script)
                bus._reader = await bus.open_pipe()
                bus._background.append(tasks.create_task(bus._read()))
                yield bus
                bus._flush_now()
                for task in bus._background:
                    task.cancel()
        finally:
            for pipe in bus._pipes:
                pipe.close()

    async def open_pipe(self, *, gather_s: float = 0.0) -> Pipe:
        """One more connection; its loss ends the bus like that of any other."""
        pipe = await Pipe.connect(self.address, self.consumer, gather_s=gather_s)
        self._pipes.append(pipe)
        self._background.append(self._tasks.create_task(_watch(pipe)))
        return pipe

    def client(self) -> redis.Redis:
        """A redis-py client for what is rare and not on the path of audio; close it after use."""
        return redis.Redis.from_url(self._url, protocol=2)

    # -- writing ----------------------------------------------------------------------------------

    def channel(self, stage: str, session: str, fence: int = 1) -> Channel:
        return Channel(self, stage, session, fence)

    def append(self, key: bytes, keep: int, packed: bytes, fence: int, *, urgent: bool) -> None:
        """Append an encoded frame to a stream; consecutive ones to the same stream share an entry."""
        tail = (key, keep, fence)
        if self._tail != tail or self._tail_bytes > GATHER_BYTES:
            self._seal()
            self._tail = tail
        self._tail_frames.append(packed)
        self._tail_bytes += len(packed)
        self.writer.wake(urgent=urgent)

    def _seal(self) -> None:
        if self._tail is None:
            return
        key, keep, fence = self._tail
        body = codec.entry(self._tail_frames)
        self._tail, self._tail_frames, self._tail_bytes = None, [], 0
        make = () if keep > 0 else (b"NOMKSTREAM",)
        fields = (b"f", body) if fence == 1 else (b"f", body, b"n", fence)
        self.writer.send(
            b"XADD", key, *make, b"MAXLEN", b"~", abs(keep), b"*", *fields, then=_expect_no_error, urgent=False
        )

    def _flush_now(self) -> None:
        self._seal()
        self.writer.flush()

    def send(self, *args: str | bytes | int | float, then: Callable[[Any], None] | None = None) -> None:
        """A command in order with what was published."""
        self._seal()
        self.writer.send(*args, then=then or _expect_no_error)

    async def call(self, *args: str | bytes | int | float) -> Any:
        """A command in order with what was published, and its reply."""
        self._seal()
        return await self.writer.call(*args)

    def send_script(self, script: str, keys: Sequence[bytes], args: Sequence[Any], then: Callable[[Any], None]) -> None:
        self._seal()
        self.writer.send(b"EVALSHA", self._shas[script], len(keys), *keys, *args, then=then)

    async def call_script(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        return await self.call(b"EVALSHA", self._shas[script], len(keys), *keys, *args)

    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None:
        """Set data aside that could not be used, with where it stood and why."""
        self.send(
            b"XADD", self.keys.dead(stage), b"MAXLEN", b"~", DEAD_KEEP, b"*",
            b"stream", source, b"id", entry_id, b"error", error, b"body", body[:65_536],
        )  # fmt: skip

    # -- reading ----------------------------------------------------------------------------------

    def follow(self, place: Place, session: str, after: str, deliver: Deliver) -> Subscription:
        """Read a session's stream from the entry after `after` on, until the subscription is closed."""
        subscription = Subscription(self, self.keys.stream(place, session), after.encode(), deliver)
        self._subscriptions.setdefault(subscription.key, []).append(subscription)
        self._wake()
        return subscription

    def unfollow(self, subscription: Subscription) -> None:
        followers = self._subscriptions.get(subscription.key, [])
        if subscription in followers:
            followers.remove(subscription)
            if not followers:
                del self._subscriptions[subscription.key]

    def _wake(self) -> None:
        """The reader is blocked on the old set of keys: end its wait."""
        if self._blocked:
            key = self.keys.wake(self.consumer)
            self.send(b"XADD", key, b"MAXLEN", 1, b"*", b"w", b"")
            self.send(b"EXPIRE", key, SESSION_TTL_S)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        wake, woken = self.keys.wake(self.consumer), b"$"
        head = (b"XREAD", b"COUNT", READ_COUNT, b"BLOCK", BLOCK_MS, b"STREAMS")
        while True:
            keys = list(self._subscriptions)
            ids = [_earliest(followers) for followers in self._subscriptions.values()]
            self._blocked = True
            reply = await self._reader.call(*head, *keys, wake, *ids, woken, timeout_s=BLOCK_MS / 1000 + 5)
            self._blocked = False
            if not reply:
                continue
            read_at, count = loop.time(), 0
            for key, entries in reply:
                count += len(entries)
                if key == wake:
                    woken = entries[-1][0]
                else:
                    self._deliver(key, entries)
            # A read over many streams costs the same for one entry as for ten: where much comes, wait for more of it.
            spare_s = self._pace_s * min(1.0, count / PACED_COUNT) - (loop.time() - read_at)
            if spare_s > 0:
                await asyncio.sleep(spare_s)

    def _deliver(self, key: bytes, entries: list[Any]) -> None:
        for entry_id, fields in entries:
            followers = self._subscriptions.get(key)
            if not followers:
                return
            found = self.decode(key, entry_id, fields)
            for subscription in tuple(followers):
                if len(followers) > 1 and _order(entry_id) <= _order(subscription.last_id):
                    continue  # read again for another follower that stands further back
                subscription.last_id = entry_id
                if found is not None:
                    subscription.deliver(entry_id.decode(), *found)

    def decode(self, key: bytes, entry_id: bytes, fields: Any) -> tuple[int, list[Frame]] | None:
        """Fence and frames of an entry; None for one that is bad, which is counted and set aside."""
        if fields is None:
            return None  # trimmed between its reading and its delivery
        body = b""
        try:
            if len(fields) == 2 and fields[0] == b"f":  # nearly all
                body, fence = fields[1], 1
            else:
                values = dict(zip(fields[::2], fields[1::2], strict=False))
                body, fence = values[b"f"], int(values.get(b"n", 1))
            return fence, codec.decode_entry(body)
        except (BadFrame, KeyError, ValueError) as error:
            metrics.bad_frames.labels(self.role).inc()
            reason = str(error) if isinstance(error, BadFrame) else "an entry without frames"
            self.dead_letter(self.role, key, entry_id.decode(), body, reason)
            return None

    async def log(self, place: Place, session: str, after: str = "-") -> list[tuple[int, list[Frame]]]:
        """What stands in a session's stream now: fence and frames of each entry."""
        key = self.keys.stream(place, session)
        entries = await self.call(b"XRANGE", key, after, b"+")
        decoded = (self.decode(key, entry_id, fields) for entry_id, fields in entries)
        return [found for found in decoded if found is not None]

    # -- stop messages ----------------------------------------------------------------------------

    def stop(self, session: str, turn: int, revision: int, *, only: bool = False) -> None:
        """Tell all workers that work on this session below (turn, revision) is in vain; `only`: of this turn alone."""
        self.send(b"PUBLISH", self.keys.stop_channel(), msgpack.packb((session, turn, revision, only)))

    async def listen_for_stops(self, on_stop: OnStop) -> None:
        """Call `on_stop` for every stop message from now on."""
        pipe = await self.open_pipe()

        def push(message: list[Any]) -> None:
            try:
                session, turn, revision, only = msgpack.unpackb(message[2])
                on_stop(str(session), int(turn), int(revision), bool(only))
            except (ValueError, TypeError, msgpack.UnpackException):
                metrics.bad_frames.labels(self.role).inc()

        pipe.on_push = push
        await pipe.call("SUBSCRIBE", self.keys.stop_channel())

    # -- a session's keys -------------------------------------------------------------------------

    def save_settings(self, session: str, settings: SessionSettings, packed: bytes) -> None:
        self.send(b"HSET", self.keys.session(session), b"settings", packed)

    def save_history(self, session: str, messages: Sequence[Message]) -> None:
        body = codec.entry([codec.encode(History(tuple(messages)))])
        self.send(b"SET", self.keys.history(session), body, b"EX", SESSION_TTL_S)

    async def conversation(self, session: str) -> tuple[bytes | None, tuple[Message, ...]]:
        """The session's packed settings, and what was said in it, in one round trip."""
        loop = asyncio.get_running_loop()
        settings: asyncio.Future[Any] = loop.create_future()
        self.send(b"HGET", self.keys.session(session), b"settings", then=settings.set_result)
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


def _earliest(followers: list[Subscription]) -> bytes:
    if len(followers) == 1:
        return followers[0].last_id
    return min((one.last_id for one in followers), key=_order)


def _order(entry_id: bytes) -> tuple[int, int]:
    ms, _, number = entry_id.partition(b"-")
    return int(ms), int(number or 0)


def parse_address(settings: Settings) -> tuple[Address, str]:
    """Where the broker is, from the settings' URL.

    Raises:
        BrokerRefused: no URL, or one that is none.
    """
    if settings.redis_url is None:
        raise BrokerRefused("PARLEY_REDIS_URL is not set")
    url = settings.redis_url.get_secret_value()
    try:
        found = parse_url(url)
    except ValueError as error:
        raise BrokerRefused(f"PARLEY_REDIS_URL: {error}") from None
    address = Address(
        host=found.get("host") or "127.0.0.1",
        port=int(found.get("port") or 6379),
        path=found.get("path"),
        username=found.get("username"),
        password=found.get("password"),
        database=int(found.get("db") or 0),
        tls=url.startswith("rediss://"),
    )
    return address, url


async def check_version(pipe: Pipe) -> str:
    """Name and version of the server.

    Raises:
        BrokerRefused: it is older than what Parley needs.
    """
    text = (await pipe.call("INFO", "server")).decode()
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    valkey = info.get("valkey_version")
    name, version, least = (
        ("Valkey", valkey, OLDEST_VALKEY) if valkey else ("Redis", info.get("redis_version", "0"), OLDEST_REDIS)
    )
    if tuple(int(part) for part in version.split(".")[:2]) < least:
        raise BrokerRefused(f"{name} {version} is too old: Redis >= 7.0 or Valkey >= 7.2 is needed")
    return f"{name} {version}"


def _expect_no_error(reply: Any) -> None:
    if isinstance(reply, hiredis.ReplyError):
        metrics.dropped.labels("broker_error").inc()


async def _watch(pipe: Pipe) -> None:
    await asyncio.shield(pipe.lost)


__all__ = ["BrokerGone", "BrokerRefused", "Bus", "Channel", "Subscription", "check_version", "parse_address"]
