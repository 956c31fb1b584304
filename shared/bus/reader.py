"""The reader: follows all the streams of a process through one connection, with a blocking read of many keys.

A stream of its own is read along with the others: an entry there wakes it, so that a newly followed stream is read
at once and not after the block.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from shared.bus.connection import RedisConnection
from shared.protocol.entry_id import order
from shared.protocol.frames import Frame
from shared.protocol.streams import SESSION_TTL_S

BLOCK_MS = 1000
READ_COUNT = 256
PACED_COUNT = 8
"""A read that brought so many entries is followed by the whole pause, one that brought fewer by its share."""

Decode = Callable[[bytes, bytes, Any], tuple[int, list[Frame]] | None]
"""Takes a key, an entry's id and its fields; gives its fence and frames, or None for one that is bad."""
EntryCallback = Callable[[str, int, list[Frame]], None]
"""Takes the entry's id, its fence and its frames."""
EntryReadCallback = Callable[[bytes, float], None]
"""Takes the id of an entry, and when it was read: for those who watch how long that took."""
Send = Callable[..., None]
"""Takes the words of a command."""


class Subscription:
    """A stream that is being followed; entries come in order to `deliver`, on the event loop."""

    __slots__ = ("_reader", "deliver", "key", "last_id")

    def __init__(self, reader: "Follows", key: bytes, last_id: bytes, deliver: EntryCallback) -> None:
        self._reader, self.key, self.last_id, self.deliver = reader, key, last_id, deliver

    def close(self) -> None:
        self._reader.unfollow(self)


class Follows(Protocol):
    """What reads the streams of subscriptions."""

    def unfollow(self, subscription: Subscription) -> None: ...


class Reader:
    """Reads what is followed, and hands the entries of each stream to who follows it."""

    def __init__(
        self,
        connection: RedisConnection,
        wake_key: bytes,
        *,
        pace_s: float,
        send: Send,
        decode: Decode,
        on_entry_read: EntryReadCallback,
    ) -> None:
        self._connection, self._wake_key, self._pace_s = connection, wake_key, pace_s
        self._send, self._decode, self._on_entry_read = send, decode, on_entry_read
        self._subscriptions: dict[bytes, list[Subscription]] = {}
        self._blocked = False

    def follow(self, key: bytes, after: str, deliver: EntryCallback) -> Subscription:
        """Read a stream from the entry after `after` on, until the subscription is closed."""
        subscription = Subscription(self, key, after.encode(), deliver)
        self._subscriptions.setdefault(key, []).append(subscription)
        self._wake()
        return subscription

    def unfollow(self, subscription: Subscription) -> None:
        followers = self._subscriptions.get(subscription.key, [])
        if subscription in followers:
            followers.remove(subscription)
            if not followers:
                del self._subscriptions[subscription.key]

    def _wake(self) -> None:
        """Blocked on the old set of keys: end the wait."""
        if self._blocked:
            self._send(b"XADD", self._wake_key, b"MAXLEN", 1, b"*", b"w", b"")
            self._send(b"EXPIRE", self._wake_key, SESSION_TTL_S)

    async def run(self) -> None:
        """Read what is followed, until cancelled.

        Raises:
            BrokerGone: the connection broke, or the broker does not answer.
        """
        loop = asyncio.get_running_loop()
        wake, woken = self._wake_key, b"$"
        head = (b"XREAD", b"COUNT", READ_COUNT, b"BLOCK", BLOCK_MS, b"STREAMS")
        while True:
            keys = list(self._subscriptions)
            ids = [_earliest(followers) for followers in self._subscriptions.values()]
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
            # A read over many streams costs the same for one entry as for ten: where much comes, wait for more of it.
            spare_s = self._pace_s * min(1.0, count / PACED_COUNT) - (loop.time() - read_at)
            if spare_s > 0:
                await asyncio.sleep(spare_s)

    def _deliver(self, key: bytes, entries: list[Any]) -> None:
        for entry_id, fields in entries:
            followers = self._subscriptions.get(key)
            if not followers:
                return
            found = self._decode(key, entry_id, fields)
            for subscription in tuple(followers):
                if len(followers) > 1 and order(entry_id) <= order(subscription.last_id):
                    continue  # read again for another follower that stands further back
                subscription.last_id = entry_id
                if found is not None:
                    subscription.deliver(entry_id.decode(), *found)


def _earliest(followers: list[Subscription]) -> bytes:
    if len(followers) == 1:
        return followers[0].last_id
    return min((one.last_id for one in followers), key=order)
