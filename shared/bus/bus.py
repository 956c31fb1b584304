"""The bus: a process's access to the broker, its streams and its keys.

A `Bus` is one generation of connections and does not reconnect. When one of its connections breaks, or the broker has
lost its data, everything inside it ends with `BrokerGone`, and `shared/worker/lifecycle.py` creates a new bus. Commands
in flight may be lost or done; readers detect duplicates by offset, and leases are taken over.

Its bases say what it can do: `commands` sends, `entries` decodes, `records` has the keys beside the streams. This file opens the
connections, follows streams and passes messages to every process.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack

from shared.bus import scripts
from shared.bus.address import broker_address
from shared.bus.connection import BrokerLostData, RedisConnection
from shared.bus.reader import EntryCallback, Reader, Subscription
from shared.bus.records import Records
from shared.bus.versions import check_version
from shared.observability import metrics
from shared.protocol.streams import StreamKind
from shared.settings import Settings

DATA_CHECK_S = 1.0
"""Interval at which a process checks that the broker still has its data."""

MessageCallback = Callable[[bytes], None]
"""Takes a Pub/Sub message."""
StopCallback = Callable[[str, int, int, bool], None]
"""Takes a session, its lowest valid turn and revision, and whether only earlier revisions of that turn are stale."""


class Bus(Records):
    """Streams and keys for one process, as long as its connections last."""

    def __init__(self, settings: Settings, role: str) -> None:
        super().__init__(settings, role)
        self.address = broker_address(settings)
        self._gather_s = settings.gather_ms / 1000
        self._tasks: asyncio.TaskGroup
        self._connections: list[RedisConnection] = []
        self._background: list[asyncio.Task[None]] = []
        self._listener: RedisConnection | None = None
        self._on_message: dict[bytes, MessageCallback] = {}
        self._reader: Reader

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
                bus.write_to(await bus.open_connection(gather_s=bus._gather_s))
                await check_version(bus.writer)
                # Not at their first use: they would be late, behind commands sent after them.
                for script in scripts.ALL:
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
            if bus.address.tls is not None:
                await asyncio.gather(*(connection.end() for connection in bus._connections))

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

    # -- streams ----------------------------------------------------------------------------------

    def follow(self, kind: StreamKind, session: str, after: str, deliver: EntryCallback) -> Subscription:
        """Deliver the entries of a session's stream that follow `after`, until the subscription is closed."""
        return self._reader.follow(self.keys.stream(kind, session), after, deliver)

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


async def _watch(connection: RedisConnection) -> None:
    await asyncio.shield(connection.lost)
