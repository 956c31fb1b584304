"""The bus: one process's connection to the broker, its streams and its keys.

A `Bus` is one generation of connections. It does not mend itself: when any of its connections breaks,
everything that runs inside it ends with `BrokerGone`, and `shared/worker/lifecycle.py` begins a new one. What
was in flight is then unknown, and the design stands that: readers know offsets, leases come back.

How it reads is `shared/bus/reader.py`, what it keeps beside the streams `shared/bus/records.py`.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

import hiredis
import msgpack
import redis.asyncio as redis
from redis.asyncio.connection import parse_url

from shared.bus import scripts
from shared.bus.broker_clock import BrokerClock
from shared.bus.connection import Address, BrokerRefused, RedisConnection
from shared.bus.reader import EntryCallback, Reader, Subscription
from shared.bus.records import Records
from shared.bus.versions import check_version
from shared.observability import metrics
from shared.protocol.codec import BadFrame
from shared.protocol.frames import Frame, codec
from shared.protocol.streams import DEAD_MAXLEN, MAXLEN, ROUTES, Keys, StreamKind
from shared.settings import Settings

GATHER_BYTES = 64 * 1024

StopCallback = Callable[[str, int, int, bool], None]
"""Takes a session, the lowest (turn, revision) of it that still counts, and whether that is said of this turn alone."""


class Target(NamedTuple):
    """A stream that frames are appended to."""

    key: bytes
    maxlen: int
    """Entries that it keeps, roughly."""
    create: bool
    """False: append only to a stream that exists."""


class Appends(Protocol):
    """What a channel writes to."""

    @property
    def keys(self) -> Keys: ...

    def append(self, target: Target, packed: bytes, fence: int, *, urgent: bool) -> None: ...


class Channel:
    """Where one stage's frames about one session go, by the table of routes."""

    __slots__ = ("_bus", "_session", "_stage", "_targets", "fence")

    def __init__(self, bus: Appends, stage: str, session: str, fence: int) -> None:
        self._bus, self._stage, self._session, self.fence = bus, stage, session, fence
        self._targets: dict[type[Frame], list[Target]] = {}

    def targets(self, kind: type[Frame]) -> list[Target]:
        """The streams that a frame of this kind goes to.

        Raises:
            KeyError: this stage has no business with such a frame.
        """
        found = self._targets.get(kind)
        if found is None:
            found = self._targets[kind] = [
                Target(
                    self._bus.keys.stream(stream, self._session),
                    MAXLEN[stream],
                    # Only the edge creates a session's log: nobody brings it back after the session has ended.
                    create=self._stage == "edge" or stream is not StreamKind.OUT,
                )
                for stream in ROUTES[self._stage][kind]
            ]
        return found

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        """Append the frame to its streams: in this turn of the event loop, or (not urgent) within the gather time."""
        packed = codec.encode(frame)
        for target in self.targets(type(frame)):
            self._bus.append(target, packed, self.fence, urgent=urgent)


class Bus(Records):
    """Streams and keys of one process, for as long as its connections live."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.keys = Keys(settings.shards)
        self.role = role
        self.consumer = f"{role}:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        """Unique to this connection generation: two of them never share a pending list."""
        self.address, self._url = parse_address(settings)
        self._gather_s = settings.gather_ms / 1000
        self._tail: tuple[Target, int] | None = None
        self._tail_frames: list[bytes] = []
        self._tail_bytes = 0
        self._shas: dict[str, bytes] = {}
        self._tasks: asyncio.TaskGroup
        self._connections: list[RedisConnection] = []
        self._background: list[asyncio.Task[None]] = []
        self.writer: RedisConnection
        self._reader: Reader
        self.clock = BrokerClock(role)

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
                bus.writer = await bus.open_connection(gather_s=bus._gather_s)
                bus.writer.before_flush = bus._seal
                await check_version(bus.writer)
                for script in (scripts.COMMIT, scripts.RENEW, scripts.SWEEP, scripts.HEARTBEAT, scripts.STATUS):
                    bus._shas[script] = await bus.writer.call("SCRIPT", "LOAD", script)
                bus._reader = Reader(
                    await bus.open_connection(),
                    bus.keys.wake(bus.consumer),
                    pace_s=settings.read_pace_ms / 1000,
                    send=bus.send,
                    decode=bus.decode,
                    on_entry_read=bus.clock.on_entry_read,
                )
                await bus.clock.ask(bus.writer.call)
                bus._background.append(tasks.create_task(bus._reader.run()))
                bus._background.append(tasks.create_task(bus.clock.keep_asking(bus.writer.call)))
                yield bus
                bus._flush_now()
                for task in bus._background:
                    task.cancel()
        finally:
            for connection in bus._connections:
                connection.close()

    async def open_connection(self, *, gather_s: float = 0.0) -> RedisConnection:
        """One more connection; its loss ends the bus like that of any other."""
        connection = await RedisConnection.connect(self.address, self.consumer, gather_s=gather_s)
        self._connections.append(connection)
        self._background.append(self._tasks.create_task(_watch(connection)))
        return connection

    def client(self) -> redis.Redis:
        """A redis-py client for what is rare and not on the path of audio; close it after use."""
        return redis.Redis.from_url(self._url, protocol=2)

    # -- writing ----------------------------------------------------------------------------------

    def channel(self, stage: str, session: str, fence: int = 1) -> Channel:
        return Channel(self, stage, session, fence)

    def append(self, target: Target, packed: bytes, fence: int, *, urgent: bool) -> None:
        """Append an encoded frame to a stream; consecutive ones to the same stream share an entry."""
        tail = (target, fence)
        if self._tail != tail or self._tail_bytes > GATHER_BYTES:
            self._seal()
            self._tail = tail
        self._tail_frames.append(packed)
        self._tail_bytes += len(packed)
        self.writer.wake(urgent=urgent)

    def _seal(self) -> None:
        if self._tail is None:
            return
        target, fence = self._tail
        body = codec.entry(self._tail_frames)
        self._tail, self._tail_frames, self._tail_bytes = None, [], 0
        existing = () if target.create else (b"NOMKSTREAM",)
        fields = (b"f", body) if fence == 1 else (b"f", body, b"n", fence)
        self.writer.send(
            b"XADD", target.key, *existing, b"MAXLEN", b"~", target.maxlen, b"*", *fields,
            on_reply=self.clock.timed(_expect_no_error), urgent=False,
        )  # fmt: skip

    def _flush_now(self) -> None:
        self._seal()
        self.writer.flush()

    def send(self, *args: str | bytes | int | float, on_reply: Callable[[Any], None] | None = None) -> None:
        """A command in order with what was published."""
        self._seal()
        self.writer.send(*args, on_reply=on_reply or _expect_no_error)

    async def call(self, *args: str | bytes | int | float) -> Any:
        """A command in order with what was published, and its reply."""
        self._seal()
        return await self.writer.call(*args)

    def send_script(
        self, script: str, keys: Sequence[bytes], args: Sequence[Any], on_reply: Callable[[Any], None]
    ) -> None:
        self._seal()
        self.writer.send(b"EVALSHA", self._shas[script], len(keys), *keys, *args, on_reply=on_reply)

    async def call_script(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        return await self.call(b"EVALSHA", self._shas[script], len(keys), *keys, *args)

    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None:
        """Set data aside that could not be used, with where it stood and why."""
        self.send(
            b"XADD", self.keys.dead(stage), b"MAXLEN", b"~", DEAD_MAXLEN, b"*",
            b"stream", source, b"id", entry_id, b"error", error, b"body", body[:65_536],
        )  # fmt: skip

    # -- reading ----------------------------------------------------------------------------------

    def follow(self, place: StreamKind, session: str, after: str, deliver: EntryCallback) -> Subscription:
        """Read a session's stream from the entry after `after` on, until the subscription is closed."""
        return self._reader.follow(self.keys.stream(place, session), after, deliver)

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

    async def log(self, place: StreamKind, session: str, after: str = "-") -> list[tuple[int, list[Frame]]]:
        """What stands in a session's stream now: fence and frames of each entry."""
        key = self.keys.stream(place, session)
        entries = await self.call(b"XRANGE", key, after, b"+")
        decoded = (self.decode(key, entry_id, fields) for entry_id, fields in entries)
        return [found for found in decoded if found is not None]

    async def newest_entries(
        self, place: StreamKind, session: str, most: int, after: str = "-"
    ) -> list[tuple[bytes, list[bytes]]] | None:
        """Id and undecoded fields of the newest `most` entries after `after`, the oldest first; None without the stream.

        Raises:
            BrokerRefused: `after` is not an entry id.
        """
        key = self.keys.stream(place, session)
        begin = after if after == "-" else f"({after}"
        entries = await self.call(b"XREVRANGE", key, b"+", begin, b"COUNT", most)
        if not entries and not await self.call(b"EXISTS", key):
            return None
        return [(entry_id, fields) for entry_id, fields in reversed(entries)]

    # -- stop messages ----------------------------------------------------------------------------

    def stop(self, session: str, turn: int, revision: int, *, only: bool = False) -> None:
        """Tell all workers that work on this session below (turn, revision) is in vain; `only`: of this turn alone."""
        self.send(b"PUBLISH", self.keys.stop_channel(), msgpack.packb((session, turn, revision, only)))

    async def listen_for_stops(self, on_stop: StopCallback) -> None:
        """Call `on_stop` for every stop message from now on."""
        connection = await self.open_connection()

        def push(message: list[Any]) -> None:
            try:
                session, turn, revision, only = msgpack.unpackb(message[2])
                on_stop(str(session), int(turn), int(revision), bool(only))
            except (ValueError, TypeError, msgpack.UnpackException):
                metrics.bad_frames.labels(self.role).inc()

        connection.on_push = push
        await connection.call("SUBSCRIBE", self.keys.stop_channel())


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


def _expect_no_error(reply: Any) -> None:
    if isinstance(reply, hiredis.ReplyError):
        metrics.dropped.labels("broker_error").inc()


async def _watch(connection: RedisConnection) -> None:
    await asyncio.shield(connection.lost)
