"""The bus: a process's access to the broker, its streams and its keys.

A `Bus` is one generation of connections and does not reconnect. When one of its connections breaks, or the broker has
lost its data, everything inside it ends with `BrokerGone`, and `shared/worker/lifecycle.py` creates a new bus. Commands
in flight may be lost or done; readers detect duplicates by offset, and leases are taken over.

`shared/bus/reader.py` reads the streams; `shared/bus/records.py` keeps the other keys.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from hashlib import sha1
from typing import Any, NamedTuple, Protocol

import msgpack
import structlog

from shared.bus import scripts
from shared.bus.address import broker_address
from shared.bus.broker_clock import BrokerClock
from shared.bus.connection import (
    BrokerBusy,
    BrokerLostData,
    BrokerRefused,
    RedisConnection,
    ReplyCallback,
    ScriptMissing,
)
from shared.bus.reader import EntryCallback, Reader, Subscription
from shared.bus.records import Records
from shared.bus.versions import check_version
from shared.observability import metrics
from shared.protocol.codec import BadFrame
from shared.protocol.frames import Frame, History, codec
from shared.protocol.session import Message
from shared.protocol.streams import DEAD_MAXLEN, MAXLEN, PRESENT, ROUTES, SESSION_TTL_S, SHARED, Keys, StreamKind
from shared.settings import Settings

log = structlog.get_logger()

UNKNOWN_TAGS = 20
"""Kinds of unknown frames that are logged, each once."""
GATHER_BYTES = 64 * 1024
"""Size above which frames are not added to an entry."""
DATA_CHECK_S = 1.0
"""Interval at which a process checks that the broker still has its data."""

Entry = tuple[str, int, list[Frame]]
"""Id, fence and frames of an entry."""
CLOSE_S = 1.0
"""Time for the broker to answer the end of a TLS connection."""

MessageCallback = Callable[[bytes], None]
"""Takes a Pub/Sub message."""
StopCallback = Callable[[str, int, int, bool], None]
"""Takes a session, its lowest valid turn and revision, and whether only earlier revisions of that turn are stale."""


class Target(NamedTuple):
    """A stream to append to."""

    key: bytes
    maxlen: int
    """Approximate number of entries at which it is trimmed."""
    create: bool
    """False: append only if the stream exists."""
    life_s: int = 0
    """A stream that is created expires after this time, unless an edge keeps it alive; 0: never."""


class Guard(NamedTuple):
    """The lease under which frames are published. Once another worker has it, nothing is appended."""

    jobs: bytes
    """The stream of the job."""
    stage: str
    id: str


class Appender(Protocol):
    """The part of the bus that a channel writes to."""

    @property
    def keys(self) -> Keys: ...
    def append(self, target: Target, packed: bytes, fence: int, guard: Guard | None, *, urgent: bool) -> None: ...
    def limit_life(self, target: Target) -> None: ...


class Channel:
    """Publishes one stage's frames about one session, routed by `shared.protocol.streams.ROUTES`."""

    __slots__ = ("_bus", "_guard", "_session", "_stage", "_targets", "fence")

    def __init__(self, bus: Appender, stage: str, session: str, fence: int, guard: Guard | None = None) -> None:
        self._bus, self._stage, self._session, self.fence, self._guard = bus, stage, session, fence, guard
        self._targets: dict[type[Frame], list[Target]] = {}

    def targets(self, kind: type[Frame]) -> list[Target]:
        """Return the streams that a frame of this type goes to.

        Raises:
            KeyError: this stage does not publish such frames.
        """
        found = self._targets.get(kind)
        if found is None:
            found = self._targets[kind] = [
                Target(
                    self._bus.keys.stream(stream, self._session),
                    MAXLEN[stream],
                    # Only the edge creates a session's log: a late frame must not recreate it after the session's end.
                    create=self._stage == "edge" or stream is not StreamKind.OUT,
                    life_s=0 if stream in SHARED else SESSION_TTL_S,
                )
                for stream in ROUTES[self._stage][kind]
            ]
        return found

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        """Append the frame to its streams: in this event-loop iteration or, if not urgent, within `gather_ms`."""
        packed = codec.encode(frame)
        is_first = type(frame) not in self._targets
        for target in self.targets(type(frame)):
            # Only the log is guarded: workers that read another stream drop entries of an older fence themselves.
            self._bus.append(target, packed, self.fence, None if target.create else self._guard, urgent=urgent)
            if is_first and target.create and target.life_s:
                self._bus.limit_life(target)


class Bus(Records):
    """Streams and keys for one process, as long as its connections last."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.keys = Keys()
        self.role = role
        self.consumer = f"{role}:{socket.gethostname()}:{os.getpid()}:{PRESENT}{secrets.token_hex(4)}"
        """Unique to this generation of connections, so that two of them never share a pending list."""
        self.address = broker_address(settings)
        self._gather_s = settings.gather_ms / 1000
        # The entry that is being gathered: its target, fence and guard, its frames and their size.
        self._tail: tuple[Target, int, Guard | None] | None = None
        self._tail_frames: list[bytes] = []
        self._tail_bytes = 0
        self._histories: dict[str, History] = {}  # to be written before whatever is sent next
        self._refusing_since_s: float | None = None
        self._unknown_tags: set[str] = set()
        self._tasks: asyncio.TaskGroup
        self._connections: list[RedisConnection] = []
        self._background: list[asyncio.Task[None]] = []
        self._listener: RedisConnection | None = None
        self._on_message: dict[bytes, MessageCallback] = {}
        self.writer: RedisConnection
        self._reader: Reader
        self.clock = BrokerClock(role)
        self.keep_turns_h = settings.keep_turns_h
        self._content_s = 3600 * settings.keep_turns_h if settings.log_content else 0

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings, role: str) -> AsyncIterator["Bus"]:
        """Connect, and read the followed streams while the context lasts.

        Raises:
            BrokerGone: the broker is not reachable or a connection broke, possibly in an exception group.
            BrokerRefused: the broker is too old or denies access.
        """
        bus = cls(settings, role)
        try:
            async with asyncio.TaskGroup() as tasks:
                bus._tasks = tasks
                bus.writer = await bus.open_connection(gather_s=bus._gather_s)
                bus.writer.before_flush = bus._seal
                await check_version(bus.writer)
                for (
                    script
                ) in scripts.ALL:  # not at their first use: they would be late, behind commands sent after them
                    await bus.writer.call("SCRIPT", "LOAD", script)
                data = await bus._data()
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
                bus._background.append(tasks.create_task(bus._watch_data(data)))
                yield bus
                bus.writer.flush()
                for task in bus._background:
                    task.cancel()
        finally:
            for connection in bus._connections:
                connection.close()
            if bus.address.tls is not None:  # a loop that ends before has sockets left
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        for connection in bus._connections:
                            await connection.closed.wait()

    async def open_connection(self, *, gather_s: float = 0.0) -> RedisConnection:
        """Open another connection. Its loss ends the bus, like the loss of any other."""
        connection = await RedisConnection.connect(self.address, self.consumer, gather_s=gather_s)
        self._connections.append(connection)
        self._background.append(self._tasks.create_task(_watch(connection)))
        return connection

    async def _data(self) -> Any:
        """Return the id of the broker's data: a random value, which whoever finds none writes."""
        await self.writer.call(b"SET", self.keys.data(), secrets.token_hex(8), b"NX")
        return await self.writer.call(b"GET", self.keys.data())

    async def _watch_data(self, expected: Any) -> None:
        """Raises `BrokerLostData` when the id of the broker's data has changed: the broker was emptied, or replaced."""
        while True:
            await asyncio.sleep(DATA_CHECK_S)
            if await self.writer.call(b"GET", self.keys.data()) != expected:
                raise BrokerLostData("the broker lost its data")

    # -- writing ----------------------------------------------------------------------------------

    @property
    def refusing_s(self) -> float:
        """For how long the broker has refused entries, in seconds; 0 if it took the latest one."""
        since_s = self._refusing_since_s
        return 0.0 if since_s is None else asyncio.get_running_loop().time() - since_s

    def channel(self, stage: str, session: str, fence: int = 1, guard: Guard | None = None) -> Channel:
        return Channel(self, stage, session, fence, guard)

    def append(self, target: Target, packed: bytes, fence: int, guard: Guard | None, *, urgent: bool) -> None:
        """Append an encoded frame to a stream; consecutive frames for the same stream share an entry."""
        if self._histories:
            self._seal()
        tail = (target, fence, guard)
        if self._tail != tail or self._tail_bytes > GATHER_BYTES:
            self._seal()
            self._tail = tail
        self._tail_frames.append(packed)
        self._tail_bytes += len(packed)
        self.writer.wake(urgent=urgent)

    def limit_life(self, target: Target) -> None:
        """Let a session's stream that has just been created expire, unless an edge keeps it alive."""
        self.send(b"EXPIRE", target.key, target.life_s, b"NX")

    def save_history(self, session: str, messages: Sequence[Message], keys: Sequence[str] = ()) -> None:
        """Save the session's history before anything else is sent. Of several in a row only the last is written: a client that
        creates 3,000 items would otherwise have its history written 3,000 times. `keys`: that of each message."""
        if not self._histories:
            self._seal()
        self._histories[session] = History(tuple(messages), tuple(keys))
        self.writer.wake(urgent=True)

    def _seal(self) -> None:
        histories, self._histories = self._histories, {}
        for session, history in histories.items():
            key, body = self.packed_history(session, history)
            self.writer.send(b"SET", key, body, b"EX", SESSION_TTL_S, on_reply=_expect_no_error)
        if self._tail is None:
            return
        target, fence, guard = self._tail
        body = codec.entry(self._tail_frames)
        self._tail, self._tail_frames, self._tail_bytes = None, [], 0
        if guard is not None:
            keys = [guard.jobs, guard.jobs, target.key]
            lease = (guard.stage, self.consumer, guard.id, fence, b"0", b"")
            args = (*lease, target.maxlen, int(target.create), target.life_s, body)
            self.send_script(scripts.COMMIT, keys, args, self.clock.timed(self._on_appended), urgent=False)
            return
        existing = () if target.create else (b"NOMKSTREAM",)
        fields = (b"f", body) if fence == 1 else (b"f", body, b"n", fence)
        self.writer.send(
            b"XADD", target.key, *existing, b"MAXLEN", b"~", target.maxlen, b"*", *fields,
            on_reply=self.clock.timed(self._on_appended), urgent=False,
        )  # fmt: skip

    def _on_appended(self, reply: Any) -> None:
        if type(reply) in (bytes, int):  # the id of the entry; under a guard whether it was appended
            self._refusing_since_s = None
            if reply == 0:  # another worker has the lease
                metrics.dropped.labels("old_fence").inc()
            return
        _expect_no_error(reply)
        if isinstance(reply, BrokerBusy | BrokerRefused) and self._refusing_since_s is None:
            self._refusing_since_s = asyncio.get_running_loop().time()

    def send(self, *args: str | bytes | int | float, on_reply: ReplyCallback | None = None) -> None:
        """Send a command, after the frames published so far."""
        self._seal()
        self.writer.send(*args, on_reply=on_reply or _expect_no_error)

    async def call(self, *args: str | bytes | int | float) -> Any:
        """Send a command, after the frames published so far, and return its reply. Raises as `RedisConnection.call`."""
        self._seal()
        return await self.writer.call(*args)

    def send_script(
        self, script: str, keys: Sequence[bytes], args: Sequence[Any], on_reply: ReplyCallback, *, urgent: bool = True
    ) -> None:
        """Run a script, after the frames published so far. The bus ends if the script needs what the broker has lost."""
        command = (len(keys), *keys, *args)

        def checked(reply: Any) -> None:
            if isinstance(reply, ScriptMissing):
                self.writer.send(b"EVAL", script, *command, on_reply=checked)
                return
            if isinstance(reply, BrokerLostData):
                self.writer.close(reply)
            on_reply(reply)

        self._seal()
        self.writer.send(b"EVALSHA", _sha(script), *command, on_reply=checked, urgent=urgent)

    async def call_script(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script, after the frames published so far, and return its result. Raises as `RedisConnection.call`."""
        try:
            return await self.call(b"EVALSHA", _sha(script), len(keys), *keys, *args)
        except ScriptMissing:  # the broker restarted, or somebody flushed the scripts
            return await self.call(b"EVAL", script, len(keys), *keys, *args)

    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None:
        """Move an unusable entry to the stage's dead letters, with its stream, its id, its session and the error.

        Its bytes are kept in a stream of their own, and only as long as a session's keys: they hold what somebody said.
        """
        named = (b"id", entry_id, b"session", _session_of(source, body))
        facts, content = (b"stream", source, *named, b"error", error), (*named, b"body", body[:65_536])
        self._keep_letter(self.keys.dead(stage), facts, 3600 * self.keep_turns_h)
        self._keep_letter(self.keys.dead_content(stage), content, self._content_s or SESSION_TTL_S)

    def _keep_letter(self, key: bytes, fields: Sequence[str | bytes], keep_s: int) -> None:
        self.send(b"XADD", key, b"MAXLEN", b"~", DEAD_MAXLEN, b"*", *fields)
        self.send(b"XTRIM", key, b"MINID", max(0, self.clock.now_ms() - 1000 * keep_s))
        self.send(b"EXPIRE", key, keep_s)

    # -- reading ----------------------------------------------------------------------------------

    def follow(self, kind: StreamKind, session: str, after: str, deliver: EntryCallback) -> Subscription:
        """Deliver the entries of a session's stream that follow `after`, until the subscription is closed."""
        return self._reader.follow(self.keys.stream(kind, session), after, deliver)

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

    # -- messages to everyone ----------------------------------------------------------------------------

    def stop(self, session: str, turn: int, revision: int, *, only: bool = False) -> None:
        """Tell all workers to stop work below (turn, revision); with `only`, earlier revisions of this turn only."""
        self.send(b"PUBLISH", self.keys.stop_channel(), msgpack.packb((session, turn, revision, only)))

    async def listen_for_stops(self, on_stop: StopCallback) -> None:
        """Call `on_stop` for every stop message while the bus lasts."""

        def on_message(message: bytes) -> None:
            try:
                session, turn, revision, only, *_ = msgpack.unpackb(message)
                on_stop(str(session), int(turn), int(revision), bool(only))
            except (ValueError, TypeError, msgpack.UnpackException):
                metrics.bad_frames.labels(self.role).inc()

        await self._subscribe(self.keys.stop_channel(), on_message)

    async def be_present(self) -> None:
        """Let everyone see that this consumer lives: the subscription ends with the process, whatever ends it."""
        await self._subscribe(self.keys.presence_channel(self.consumer), lambda _: None)

    async def _subscribe(self, channel: bytes, on_message: MessageCallback) -> None:
        """Call `on_message` for every message of the channel while the bus lasts."""
        if self._listener is None:
            self._listener = await self.open_connection()
            self._listener.on_push = lambda message: self._on_message[message[1]](message[2])
        self._on_message[channel] = on_message
        await self._listener.call("SUBSCRIBE", channel)


def _expect_no_error(reply: Any) -> None:
    if isinstance(reply, BrokerBusy | BrokerRefused):
        metrics.dropped.labels("broker_error").inc()


@cache
def _sha(script: str) -> str:
    """Return the digest by which a broker knows a script once it has run."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _session_of(source: bytes, body: bytes) -> str:
    """Return the session that an entry belongs to; empty if that is not known."""
    with suppress(BadFrame):
        for frame in codec.decode_entry(body):
            if session := getattr(frame, "session", ""):
                return str(session)
    return source.rpartition(b":")[2].decode(errors="replace")


async def _watch(connection: RedisConnection) -> None:
    await asyncio.shield(connection.lost)
