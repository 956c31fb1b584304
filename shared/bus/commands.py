"""What a process sends to the broker: frames, commands and scripts, in the order in which they are given.

Consecutive frames for the same stream share an entry, and everything that is sent in one iteration of the event loop shares a write.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from typing import Any

from shared.bus import scripts
from shared.bus.broker_clock import BrokerClock
from shared.bus.channel import Channel, Guard, Target
from shared.bus.connection import (
    BrokerBusy,
    BrokerLostData,
    BrokerRefused,
    RedisConnection,
    ReplyCallback,
    ScriptMissing,
)
from shared.observability import metrics
from shared.protocol.frames import History, codec
from shared.protocol.session import Message
from shared.protocol.streams import PRESENT, SESSION_TTL_S, Keys

GATHER_BYTES = 64 * 1024
"""Size above which frames are not added to an entry."""


class Commands:
    """Sends entries, commands and scripts over one connection, which the subclass opens."""

    writer: RedisConnection

    def __init__(self, role: str) -> None:
        self.keys = Keys()
        self.role = role
        self.consumer = f"{role}:{socket.gethostname()}:{os.getpid()}:{PRESENT}{secrets.token_hex(4)}"
        """Unique to this generation of connections, so that two of them never share a pending list."""
        self.clock = BrokerClock(role)
        # The entry that is being gathered: its target, fence and guard, its frames and their size.
        self._tail: tuple[Target, int, Guard | None] | None = None
        self._tail_frames: list[bytes] = []
        self._tail_bytes = 0
        self._histories: dict[str, History] = {}  # to be written before whatever is sent next
        self._refusing_since_s: float | None = None

    def write_to(self, connection: RedisConnection) -> None:
        """Send everything over this connection from now on."""
        self.writer = connection
        connection.before_flush = self._seal

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
            key, packed = self.keys.history(session), codec.entry([codec.encode(history)])
            self.writer.send(b"SET", key, packed, b"EX", SESSION_TTL_S, on_reply=_expect_no_error)
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


def _expect_no_error(reply: Any) -> None:
    if isinstance(reply, BrokerBusy | BrokerRefused):
        metrics.dropped.labels("broker_error").inc()


@cache
def _sha(script: str) -> str:
    """Return the digest by which a broker knows a script once it has run."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
