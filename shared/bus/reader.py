"""Reads all streams that a process follows, through one connection, with a blocking XREAD of many keys.

Every XREAD includes a wake-up stream. An entry there ends the block, so that a newly followed stream is read at once.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from shared.bus.connection import RedisConnection
from shared.protocol.entry_id import order
from shared.protocol.frames import Frame
from shared.protocol.streams import SESSION_TTL_S

BLOCK_MS = 1000
READ_COUNT = 256
PACED_COUNT = 8
"""A read that returns this many entries is followed by the whole pause, a smaller one by a proportional pause."""

EntryDecoder = Callable[[bytes, bytes, Any], tuple[int, list[Frame]] | None]
"""Takes a key, an entry's id and its fields; returns its fence and frames, or None for a bad entry."""
EntryCallback = Callable[[str, int, list[Frame]], None]
"""Takes an entry's id, its fence and its frames."""
EntryReadCallback = Callable[[bytes, float], None]
"""Takes an entry's id and the time of its reading, in seconds of the event loop's clock."""
CommandSender = Callable[..., None]
"""Takes the arguments of a command."""


class Subscription:
    """A followed stream; its entries are passed to `deliver` in order, on the event loop."""

    __slots__ = ("_unfollow", "deliver", "key", "last_id")

    def __init__(
        self, unfollow: Callable[["Subscription"], None], key: bytes, last_id: bytes, deliver: EntryCallback
    ) -> None:
        self._unfollow, self.key, self.last_id, self.deliver = unfollow, key, last_id, deliver

    def close(self) -> None:
        self._unfollow(self)


class Reader:
    """Reads the followed streams and delivers their entries to the subscriptions."""

    def __init__(
        self,
        connection: RedisConnection,
        wake_key: bytes,
        *,
        pace_s: float,
        send: CommandSender,
        decode: EntryDecoder,
        on_entry_read: EntryReadCallback,
    ) -> None:
        self._connection, self._wake_key, self._pace_s = connection, wake_key, pace_s
        self._send, self._decode, self._on_entry_read = send, decode, on_entry_read
        self._subscriptions: dict[bytes, list[Subscription]] = {}
        self._blocked = False

    def follow(self, key: bytes, after: str, deliver: EntryCallback) -> Subscription:
        """Deliver the entries of a stream that follow `after`, until the subscription is closed."""
        subscription = Subscription(self.unfollow, key, after.encode(), deliver)
        self._subscriptions.setdefault(key, []).append(subscription)
        self._wake()
        return subscription

    def unfollow(self, subscription: Subscription) -> None:
        subscriptions = self._subscriptions.get(subscription.key, [])
        if subscription in subscriptions:
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._subscriptions[subscription.key]

    def _wake(self) -> None:
        """End a block on the old set of keys."""
        if self._blocked:
            self._send(b"XADD", self._wake_key, b"MAXLEN", 1, b"*", b"w", b"")
            self._send(b"EXPIRE", self._wake_key, SESSION_TTL_S)

    async def run(self) -> None:
        """Read the followed streams until cancelled.

        Raises:
            BrokerGone: the connection broke, or the broker does not answer.
        """
        loop = asyncio.get_running_loop()
        wake, woken = self._wake_key, b"$"
        head = (b"XREAD", b"COUNT", READ_COUNT, b"BLOCK", BLOCK_MS, b"STREAMS")
        while True:
            keys = list(self._subscriptions)
            ids = [_earliest(subscriptions) for subscriptions in self._subscriptions.values()]
            self._blocked = True
            reply = await self._connection.call(*head, *keys, wake, *ids, woken, timeout_s=BLOCK_MS / 1000 + 5)
            self._blocked = False
            if not reply:
                continue
            read_at, count = loop.time(), 0
            for key, entries in reply:
                count += len(entries)
                if key == wake:
                    woken = entries[-1][0]
                else:
                    self._on_entry_read(entries[-1][0], read_at)
                    self._deliver(key, entries)
            # An XREAD over many streams costs the same for one entry as for ten: under load, wait for more entries.
            spare_s = self._pace_s * min(1.0, count / PACED_COUNT) - (loop.time() - read_at)
            if spare_s > 0:
                await asyncio.sleep(spare_s)

    def _deliver(self, key: bytes, entries: list[Any]) -> None:
        for entry_id, fields in entries:
            subscriptions = self._subscriptions.get(key)
            if not subscriptions:
                return
            decoded = self._decode(key, entry_id, fields)
            for subscription in tuple(subscriptions):
                if len(subscriptions) > 1 and order(entry_id) <= order(subscription.last_id):
                    continue  # already delivered; read again for a subscription at an earlier position
                subscription.last_id = entry_id
                if decoded is not None:
                    subscription.deliver(entry_id.decode(), *decoded)


def _earliest(subscriptions: list[Subscription]) -> bytes:
    if len(subscriptions) == 1:
        return subscriptions[0].last_id
    return min((one.last_id for one in subscriptions), key=order)
