"""A stage's view of one job: its frame, its lease, its session and its streams."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span

from shared.audio.voices import ClonedVoice
from shared.bus.channel import Guard
from shared.bus.leases import Lease, Leases
from shared.bus.reader import EntryCallback, Subscription
from shared.bus.session_store import SessionStore
from shared.observability import metrics, tracing
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import Frame, Summary
from shared.protocol.reasons import STAGE_FAILED
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import StreamKind
from shared.protocol.turns import WHOLE_SESSION, Position

FEED_LIMIT = 2_000
"""Frames that may wait for a handler, more than the longest turn has. Above that the job fails."""


ABANDONED_S = 10.0
"""After this time without a frame of a session, a worker checks whether the session still exists."""


class JobFailed(RuntimeError):
    """A job has failed for good: another attempt would fail, too. The message says why."""

    def __init__(self, message: str, code: str = STAGE_FAILED) -> None:
        """`code`: one of `reasons.FAILURES`."""
        super().__init__(message)
        self.code = code


class Work:
    """One job in progress. The stage reads and publishes through it and never sees the broker."""

    def __init__(self, bus: SessionStore, leases: Leases, stage: str, lease: Lease) -> None:
        self.lease = lease
        self.frame = lease.frame
        self.session: str = lease.frame.session  # type: ignore[attr-defined]  # every frame of a jobs stream has one
        self.turn: int = getattr(lease.frame, "turn", 0)
        self.revision: int = getattr(lease.frame, "revision", 0)
        # A job that belongs to no turn becomes stale only with its session.
        belongs = hasattr(lease.frame, "turn")
        self.position: Position = (self.turn, self.revision) if belongs else (WHOLE_SESSION - 1, 0)
        self.ended: str | None = None
        """Why the job must end: `stale`, `lost` or `handed_back`; None while it goes on."""
        self.begun = False
        """Its task has taken its first step."""
        self.task: asyncio.Task[None] | None = None
        self.span: Span = INVALID_SPAN
        """The job's span in its turn's trace; does nothing if the turn is not traced."""
        self.trace = ""
        """The span's traceparent, for the frames that the job publishes."""
        self._traced_s = 0.0
        self._bus, self._leases, self._stage = bus, leases, stage
        self._channel = bus.channel(stage, self.session, lease.fence, Guard(lease.stream, stage, lease.id))
        self._subscriptions: list[Subscription] = []

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1. Above 1, an earlier worker may have published some of the results."""
        return self.lease.fence

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        """Publish a frame; see `Channel.publish`."""
        self._channel.publish(frame, urgent=urgent)

    @property
    def waited_s(self) -> float:
        """Seconds since the job was published."""
        return self.age_s(milliseconds(self.lease.id))

    def age_s(self, clock_ms: int) -> float:
        """Return the seconds since a moment of the broker's clock; never negative."""
        return max(0.0, (self._bus.clock.now_ms() - clock_ms) / 1000)

    async def drain(self) -> None:
        """Wait until the connection accepts more data. Stages that publish much call it."""
        await self._bus.writer.drain()

    def commit(self, frames: Sequence[Frame]) -> None:
        """Publish frames to all their streams, or to none if the lease was lost; the job goes on."""
        self.checkpoint(frames, b"")

    def checkpoint(self, frames: Sequence[Frame], state: bytes) -> None:
        """Publish frames and save the state for a successor; neither if the lease was lost."""

        def on_reply(reply: Any) -> None:
            if reply != 1:
                self.stop("lost")

        key = self._bus.keys.session(self.session)
        self._leases.commit(self.lease, self._channel, key, frames, on_reply, done=False, checkpoint=state)

    async def finish(self, frames: Sequence[Frame]) -> bool:
        """Publish the last frames and end the lease. Return False if the lease was lost; then nothing was published."""
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
        if not value:
            metrics.leases_lost.labels(self._stage).inc()
        return bool(value)

    def follow(self, kind: StreamKind, after: str, deliver: EntryCallback) -> None:
        """Deliver the entries of a stream of this session that follow `after`, until the job ends."""
        self._subscriptions.append(self._bus.follow(kind, self.session, after, deliver))

    @asynccontextmanager
    async def feed(self, kind: StreamKind, after: str) -> AsyncIterator[AsyncGenerator[Frame, None]]:
        """Yield an iterator of a stream's frames, which ends when the session is gone. Frames with a lower fence than an earlier
        frame are dropped.

        Raises:
            OverflowError: from the iterator, if more than `FEED_LIMIT` frames wait.
        """
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
                try:
                    async with asyncio.timeout(ABANDONED_S):
                        await arrived.wait()
                except TimeoutError:
                    if not await self.session_lives():
                        return

        self.follow(kind, after, deliver)
        subscription = self._subscriptions[-1]
        try:
            yield frames()
        finally:  # the job may go on for long without these frames
            subscription.close()
            self._subscriptions.remove(subscription)

    async def log(self) -> list[Frame]:
        """Return the frames of the session's log, with which a second attempt continues the first one."""
        return [frame for _, frames in await self._bus.log(StreamKind.OUT, self.session) for frame in frames]

    async def conversation(self) -> tuple[SessionSettings, tuple[Message, ...]]:
        return await self._bus.conversation(self.session)

    async def summary(self) -> Summary | None:
        """Return the summary of the conversation's beginning; None before the first one."""
        return await self._bus.summary(self.session)

    def save_summary(self, summary: Summary) -> None:
        self._bus.save_summary(self.session, summary)

    async def load_checkpoint(self) -> bytes | None:
        return await self._bus.checkpoint(self.session)

    async def voice(self, name: str, known: ClonedVoice | None = None) -> ClonedVoice | None:
        """Return the cloned voice of that name; None if it does not exist. See `Records.voice`."""
        return await self._bus.voice(name, known)

    async def session_lives(self) -> bool:
        """Return whether the session's edge has sent a keep-alive recently."""
        return await self._bus.session_lives(self.session)

    def expire_session(self) -> None:
        """Let the keys of an ended session expire, also one that the stage has created after the edge's last keep-alive."""
        self._bus.keep_alive(self.session)

    def forget_session(self) -> None:
        """Delete the keys of a session whose edge has died."""
        self._bus.forget(self.session)

    def begin_span(self, attributes: tracing.Attributes) -> None:
        """Begin the job's span, if its turn is traced."""
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
        """Add an event to the span. `seconds` names an attribute that gets the time since the span began."""
        if self.trace:
            self.span.add_event(event)
            if seconds:
                self.span.set_attribute(seconds, round(time.monotonic() - self._traced_s, 6))

    def stop(self, reason: str) -> None:
        """End this job now.

        A task that has not begun is not cancelled: it would never enter its coroutine, and nothing would end the lease.
        It checks `ended` in its first step instead.
        """
        if self.ended is None and self.task is not None:
            self.ended = reason
            if reason == "lost":
                metrics.leases_lost.labels(self._stage).inc()
            if self.begun:
                self.task.cancel()

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
