"""One piece of work in hand: what a stage gets of the bus, of its lease and of the session it works for."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span

from shared.audio.voices import ClonedVoice
from shared.bus.leases import Lease, Leases
from shared.bus.reader import EntryCallback, Subscription
from shared.bus.records import unpack_settings
from shared.bus.session_store import SessionStore
from shared.observability import metrics, tracing
from shared.protocol.frames import Frame
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import StreamKind

FEED_LIMIT = 2_000
"""Entries that may wait for a handler: more than the longest turn holds. One more, and the work fails."""


class Work:
    """One piece of work in hand: the frame it is about, and all that its stage may do to the outside."""

    def __init__(self, bus: SessionStore, leases: Leases, stage: str, lease: Lease) -> None:
        self.lease = lease
        self.frame = lease.frame
        self.session: str = lease.frame.session  # type: ignore[attr-defined]  # every frame of a jobs stream has one
        self.turn: int = getattr(lease.frame, "turn", 0)
        self.revision: int = getattr(lease.frame, "revision", 0)
        self.ended: str | None = None
        """Why the work must stop: `stale`, `lost` or `handed_back`; None while it is wanted."""
        self.begun = False
        """Its task has taken its first step."""
        self.task: asyncio.Task[None] | None = None
        self.span: Span = INVALID_SPAN
        """Of this work, within its turn's trace; does nothing where that is not traced."""
        self.trace = ""
        """The span's traceparent, for the frames that hand the turn on."""
        self._traced_s = 0.0
        self._bus, self._leases, self._stage = bus, leases, stage
        self._channel = bus.channel(stage, self.session, lease.fence)
        self._subscriptions: list[Subscription] = []

    @property
    def attempt(self) -> int:
        """1 for the first; above that, an earlier worker may have published a part already."""
        return self.lease.fence

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        """Publish a frame where the table of routes says."""
        self._channel.publish(frame, urgent=urgent)

    def age_s(self, clock_ms: int) -> float:
        """How long ago the broker's clock stood there."""
        return max(0.0, (self._bus.clock.now_ms() - clock_ms) / 1000)

    async def drain(self) -> None:
        """Wait while the broker takes data more slowly than it is made; to be called by who publishes much."""
        await self._bus.writer.drain()

    def commit(self, frames: Sequence[Frame]) -> None:
        """Publish frames to all their places or, if the lease is lost, to none; the work goes on."""
        self.checkpoint(frames, b"")

    def checkpoint(self, frames: Sequence[Frame], state: bytes) -> None:
        """Publish frames and save the state from which a successor goes on: both or, if the lease is lost, neither."""

        def on_reply(reply: Any) -> None:
            if reply != 1:
                self.stop("lost")

        key = self._bus.keys.session(self.session)
        self._leases.commit(self.lease, self._channel, key, frames, on_reply, done=False, checkpoint=state)

    async def finish(self, frames: Sequence[Frame]) -> bool:
        """Publish the last frames and end the lease. False if the lease was not ours any more: nothing was done."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_reply(value: Any) -> None:
            if not reply.done():  # the work may have been cancelled meanwhile
                reply.set_result(value)

        key = self._bus.keys.session(self.session)
        self._leases.commit(self.lease, self._channel, key, frames, on_reply, done=True)
        async with asyncio.timeout(5):
            value = await reply
        if isinstance(value, BaseException):
            raise value
        return bool(value)

    def follow(self, place: StreamKind, after: str, deliver: EntryCallback) -> None:
        """Call `deliver` with id, fence and frames of every entry of a stream of this session, until the work ends."""
        self._subscriptions.append(self._bus.follow(place, self.session, after, deliver))

    @asynccontextmanager
    async def feed(self, place: StreamKind, after: str) -> AsyncIterator[AsyncGenerator[Frame, None]]:
        """Frames of a stream of this session, in order; those of an earlier fence than the newest are left out."""
        waiting: deque[Frame] = deque()
        arrived = asyncio.Event()
        newest = 0

        def deliver(entry_id: str, fence: int, frames: list[Frame]) -> None:
            nonlocal newest
            if fence < newest:
                metrics.dropped.labels("old_fence").inc(len(frames))
                return
            newest = fence
            waiting.extend(frames)
            arrived.set()

        async def frames() -> AsyncGenerator[Frame, None]:
            while True:
                while waiting:
                    if len(waiting) > FEED_LIMIT:
                        raise OverflowError(f"{len(waiting)} frames behind")
                    yield waiting.popleft()
                arrived.clear()
                await arrived.wait()

        self.follow(place, after, deliver)
        subscription = self._subscriptions[-1]
        try:
            yield frames()
        finally:  # what comes after that is nothing to this work, however long it goes on
            subscription.close()
            self._subscriptions.remove(subscription)

    async def log(self) -> list[Frame]:
        """What stands in the session's log now; for a second attempt that goes on where the first one ended."""
        return [frame for _, frames in await self._bus.log(StreamKind.OUT, self.session) for frame in frames]

    async def conversation(self) -> tuple[SessionSettings, tuple[Message, ...]]:
        """The session's settings and what was said in it."""
        packed, messages = await self._bus.conversation(self.session)
        return unpack_settings(packed), messages

    async def load_checkpoint(self) -> bytes | None:
        return await self._bus.checkpoint(self.session)

    async def voice(self, name: str, known: ClonedVoice | None = None) -> ClonedVoice | None:
        """The cloned voice of that name, or None; the one that is known already, where it is still the same."""
        return await self._bus.voice(name, known)

    async def session_lives(self) -> bool:
        """Whether the session's edge has given a sign of life lately."""
        return await self._bus.session_lives(self.session)

    def forget_session(self) -> None:
        """The session is over, and nobody was there to end it."""
        self._bus.forget(self.session)

    def begin_span(self, attributes: tracing.Attributes) -> None:
        """Trace this work, if its turn is traced."""
        parent: str = getattr(self.frame, "trace", "")
        own: tracing.Attributes = {
            "parley.session": tracing.session_label(self.session),
            "parley.turn": self.turn,
            "parley.revision": self.revision,
            "parley.attempt": self.attempt,
        }
        self.span = tracing.begin_span(self._stage, parent, {**attributes, **own})
        self.trace, self._traced_s = tracing.traceparent(self.span), time.monotonic()

    def note(self, event: str, seconds: str = "") -> None:
        """Mark this moment in the trace; `seconds` names the attribute that tells how long the work had taken by then."""
        if self.trace:
            self.span.add_event(event)
            if seconds:
                self.span.set_attribute(seconds, round(time.monotonic() - self._traced_s, 6))

    def stop(self, reason: str) -> None:
        """End this work now. A task that has not begun is not cancelled: it would never enter its coroutine, and nothing
        would end the lease; it sees `ended` in its first step."""
        if self.ended is None and self.task is not None:
            self.ended = reason
            if self.begun:
                self.task.cancel()

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
