"""A pipelined connection to the broker: commands are sent in order, replies come back in the same order.

It packs commands, gathers writes, matches replies and reports the end of the connection. It does not reconnect and
does not know streams. It uses hiredis directly because a client library's coroutine per reply costs three times as
much as the command (DESIGN.md, decision 4).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import hiredis

Reply = Any
"""bytes, int, None, a list of replies, or an exception: see `error_of`."""
ReplyCallback = Callable[[Reply], None]

MAX_BACKLOG = 20_000
"""Commands without a reply at which the broker is treated as gone."""
CLOSE_S = 1.0
"""Time for the broker to answer the end of a TLS connection."""
TIMEOUT_S = 5.0
"""Time for a connection to open, and for a reply to a command that does not block."""
_NOTHING = object()


class BrokerGone(ConnectionError):
    """The broker does not answer, cannot serve at the moment, or the connection broke. A new bus may work."""


class BrokerBusy(BrokerGone):
    """The broker refuses a command for now: it is full, loads its data, is not the master, or is busy."""


class BrokerLostData(BrokerGone):
    """The broker answers, but what Parley has stored there is gone: a group, a key, or everything."""


class ScriptMissing(BrokerLostData):
    """The broker does not know a script any more. Nothing was executed."""


class BrokerRefused(RuntimeError):
    """The broker replied to a command with an error that retrying does not fix."""


class GroupExists(BrokerRefused):
    """The consumer group that was to be created exists."""


ERRORS: dict[str, type[Exception]] = {
    **dict.fromkeys(
        ("OOM", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF", "NOREPLICAS"),
        BrokerBusy,
    ),
    "ERR max number of clients": BrokerBusy,
    "NOGROUP": BrokerLostData,
    "UNBLOCKED": BrokerLostData,  # the stream that a command waited for was deleted
    "ERR no such key": BrokerLostData,
    "NOSCRIPT": ScriptMissing,
    "BUSYGROUP": GroupExists,
}
"""The kind of an error reply, by its first words. All others are `BrokerRefused`."""


def error_of(reply: str) -> Exception:
    """Return the exception for an error reply. This is the only place that reads the texts of the broker's errors."""
    kinds = (kind for words, kind in ERRORS.items() if f"{reply} ".startswith(f"{words} "))
    return next(kinds, BrokerRefused)(reply)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker listens, and the credentials for it."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str | None = None
    """Path of a unix socket; it takes precedence over host and port."""
    username: str | None = None
    password: str | None = None
    database: int = 0
    tls: ssl.SSLContext | None = None
    """How the connection is encrypted; None: it is not."""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class RedisConnection(asyncio.Protocol):
    """A connection that all parts of a process share without waiting for each other."""

    def __init__(self, gather_s: float) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with `BrokerGone` when the connection ends."""
        self.closed = asyncio.Event()
        """Its socket is closed. With TLS that takes a round trip."""
        self.on_push: Callable[[list[Any]], None] | None = None
        """Takes every Pub/Sub message, after a SUBSCRIBE."""
        self._loop = asyncio.get_running_loop()
        self._gather_s = gather_s
        self._reader = hiredis.Reader(notEnoughData=_NOTHING, replyError=error_of)
        self._out: list[bytes] = []
        self._callbacks: deque[ReplyCallback | None] = deque()
        self._soon = False
        self._flushing = False
        self._flushed_at_s = 0.0
        self._later: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self.before_flush: Callable[[], None] | None = None
        """Called before the gathered commands are written; may send more."""

    @classmethod
    async def connect(cls, address: Address, name: str, *, gather_s: float = 0.0) -> "RedisConnection":
        """Open a connection, authenticate, and set its client name.

        Raises:
            BrokerGone: no broker answers at the address in time.
            BrokerRefused: the broker denies access.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if address.path:
                    _, connection = await loop.create_unix_connection(lambda: cls(gather_s), address.path)
                else:
                    _, connection = await loop.create_connection(
                        lambda: cls(gather_s), address.host, address.port, ssl=address.tls
                    )
        except (OSError, TimeoutError) as error:
            raise BrokerGone(f"no broker at {address}: {error or 'no answer'}") from None
        try:
            if address.password:
                user = (address.username,) if address.username else ()
                await connection.call("AUTH", *user, address.password)
            if address.database:
                await connection.call("SELECT", address.database)
            await connection.call("CLIENT", "SETNAME", name)
        except BaseException:
            connection.close()
            raise
        return connection

    # -- sending ----------------------------------------------------------------------------------

    def send(
        self, *args: str | bytes | int | float, on_reply: ReplyCallback | None = None, urgent: bool = True
    ) -> None:
        """Send a command; `on_reply` takes its reply. If not urgent, it may wait for further commands for `gather_s`.

        On a lost connection this does nothing; callers watch `lost`.
        """
        if self._transport is None:
            return
        self._out.append(hiredis.pack_command(args))  # type: ignore[arg-type]  # its stub says "a tuple of one"
        self._callbacks.append(on_reply)
        self.wake(urgent=urgent)

    def wake(self, *, urgent: bool) -> None:
        """Schedule a flush: at the end of this event-loop iteration or, if not urgent, within `gather_s`."""
        if self._flushing:
            return
        if urgent or not self._gather_s:
            if not self._soon:
                self._soon = True
                self._loop.call_soon(self.flush)
        elif self._later is None and not self._soon:
            # Counted from the last flush: the first command after an idle time is sent at once.
            self._later = self._loop.call_at(self._flushed_at_s + self._gather_s, self.flush)

    async def call(self, *args: str | bytes | int | float, timeout_s: float = TIMEOUT_S) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            BrokerGone: the connection broke, or the reply took longer than `timeout_s`.
            Exception: the reply is an error: see `error_of`.
        """
        if self._transport is None:
            raise BrokerGone("connection lost")
        reply: asyncio.Future[Reply] = self._loop.create_future()
        self.send(*args, on_reply=lambda value: None if reply.done() else reply.set_result(value))
        try:
            async with asyncio.timeout(timeout_s):
                value = await reply
        except TimeoutError:
            self.close(BrokerGone(f"no reply within {timeout_s:g} s"))
            raise BrokerGone(f"no reply within {timeout_s:g} s") from None
        if isinstance(value, Exception):
            raise value
        return value

    async def drain(self) -> None:
        """Wait until the transport's write buffer has room again."""
        if not self._writable.is_set():
            await self._writable.wait()

    @property
    def backlog(self) -> int:
        """Number of commands that wait for their reply."""
        return len(self._callbacks)

    def flush(self) -> None:
        self._soon = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self.before_flush is not None:
            self._flushing = True
            self.before_flush()
            self._flushing = False
        if self._out and self._transport is not None:
            self._flushed_at_s = self._loop.time()
            self._transport.write(b"".join(self._out))
            self._out.clear()
            if len(self._callbacks) > MAX_BACKLOG:
                self.close(BrokerGone(f"{len(self._callbacks)} commands without a reply"))

    # -- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader, callbacks = self._reader, self._callbacks
        try:
            reader.feed(data)
            while self._transport is not None and (reply := reader.gets()) is not _NOTHING:
                if self.on_push is not None and type(reply) is list and reply and reply[0] == b"message":
                    self.on_push(reply)
                    continue
                on_reply = callbacks.popleft()
                if on_reply is not None:
                    on_reply(reply)
        except (hiredis.HiredisError, IndexError) as error:
            self.close(BrokerGone(f"the broker does not speak RESP: {error}"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._end(BrokerGone(f"connection lost: {exc}" if exc else "connection lost"))

    def close(self, reason: BrokerGone | None = None) -> None:
        """End the connection; every waiting callback gets `BrokerGone`."""
        if self._transport is not None:
            if reason is None:
                self._transport.close()
            else:
                self._transport.abort()
        self._end(reason or BrokerGone("closed"))

    async def end(self) -> None:
        """Close the connection. With TLS, wait for the broker's answer: an event loop that ends before leaves a socket open."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.closed.wait()

    def _end(self, reason: BrokerGone) -> None:
        self._transport = None
        self._out.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._writable.set()
        while self._callbacks:
            on_reply = self._callbacks.popleft()
            if on_reply is not None:
                on_reply(reason)
        if not self.lost.done():
            self.lost.set_exception(reason)
            self.lost.exception()  # mark it as retrieved: not everyone awaits it
