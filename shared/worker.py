"""The worker: takes work of one stage, keeps its leases, hands the results on.

One task group with named parts: producer (asks for as many jobs as there are free slots), sweeper (takes over
what others left), keeper (renews leases, says that it is ready) and a bounded number of handlers. The stage
itself speaks frames and never sees the broker: it gets a `Work`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import structlog

from shared import metrics
from shared.bus import Bus, Subscription
from shared.codec import BadFrame
from shared.engines import EngineLost
from shared.frames import Frame, SettingsChanged, StageFailed, codec
from shared.leases import Lease, Leases
from shared.lifecycle import Shutdown
from shared.session import Message, SessionSettings
from shared.settings import Settings
from shared.streams import Place
from shared.turns import TurnGates
from shared.voices import ClonedVoice
from shared.wire import BrokerGone

log = structlog.get_logger()

FEED_LIMIT = 2_000
"""Entries that may wait for a handler: more than the longest turn holds. One more, and the work fails."""


class Stage(Protocol):
    """What a worker runs."""

    name: str
    slots: int
    """Pieces of work in hand at once."""
    long_lived: bool
    """Its work lasts as long as a session: at shutdown it is handed back at once, not finished."""

    interruptible: bool
    """Its work is in vain once its turn is stale."""

    async def load(self) -> None: ...

    def info(self) -> dict[str, Any]:
        """What clients may want to know of a ready worker."""
        ...

    async def work(self, work: "Work") -> Sequence[Frame]:
        """Do one piece of work. The frames it returns are published together with the end of the lease."""
        ...

    async def close(self) -> None: ...


class Work:
    """One piece of work in hand: the frame it is about, and all that its stage may do to the outside."""

    def __init__(self, bus: Bus, leases: Leases, stage: str, lease: Lease) -> None:
        self.lease = lease
        self.frame = lease.frame
        self.session: str = lease.frame.session  # type: ignore[attr-defined]  # every frame of a jobs stream has one
        self.turn: int = getattr(lease.frame, "turn", 0)
        self.revision: int = getattr(lease.frame, "revision", 0)
        self.ended: str | None = None
        """Why the work is to stop: `stale`, `lost`; None while it is wanted."""
        self.task: asyncio.Task[None] | None = None
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

    async def drain(self) -> None:
        """Wait while the broker takes data more slowly than it is made; to be called by who publishes much."""
        await self._bus.writer.drain()

    def commit(self, frames: Sequence[Frame]) -> None:
        """Publish frames to all their places or, if the lease is lost, to none; the work goes on."""
        self.checkpoint(frames, b"")

    def checkpoint(self, frames: Sequence[Frame], state: bytes) -> None:
        """Publish frames and save the state from which a successor goes on: both or, if the lease is lost, neither."""

        def then(reply: Any) -> None:
            if reply != 1:
                self.stop("lost")

        key = self._bus.keys.session(self.session)
        self._leases.commit(self.lease, self._channel, key, frames, then, done=False, checkpoint=state)

    async def finish(self, frames: Sequence[Frame]) -> bool:
        """Publish the last frames and end the lease. False if the lease was not ours any more: nothing was done."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def then(value: Any) -> None:
            if not reply.done():  # the work may have been cancelled meanwhile
                reply.set_result(value)

        key = self._bus.keys.session(self.session)
        self._leases.commit(self.lease, self._channel, key, frames, then, done=True)
        async with asyncio.timeout(5):
            value = await reply
        if isinstance(value, BaseException):
            raise value
        return bool(value)

    def follow(self, place: Place, after: str, deliver: Callable[[str, int, list[Frame]], None]) -> None:
        """Call `deliver` with id, fence and frames of every entry of a stream of this session, until the work ends."""
        self._subscriptions.append(self._bus.follow(place, self.session, after, deliver))

    @asynccontextmanager
    async def feed(self, place: Place, after: str) -> AsyncIterator[AsyncGenerator[Frame, None]]:
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
        return [frame for _, frames in await self._bus.log(Place.OUT, self.session) for frame in frames]

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

    def stop(self, reason: str) -> None:
        """This work is in vain: end it now."""
        if self.ended is None and self.task is not None:
            self.ended = reason
            self.task.cancel()

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()


def pack_settings(settings: SessionSettings) -> bytes:
    """Settings as they lie in the session's hash."""
    return codec.entry([codec.encode(SettingsChanged(settings))])


def unpack_settings(packed: bytes | None) -> SessionSettings:
    """Settings from the session's hash; the defaults where there are none to be read."""
    with suppress(BadFrame):
        if packed is not None:
            frame = codec.decode_entry(packed)[0]
            if isinstance(frame, SettingsChanged):
                return frame.settings
    return SessionSettings()


CRASHES = 2
"""Times `max_deliveries`: work that outlives so many of its workers is given up. More than failures, as the work beside it counts too."""


class Worker:
    """One stage on one bus."""

    def __init__(self, stage: Stage, settings: Settings, shutdown: Shutdown, bus: Bus) -> None:
        self._stage, self._settings, self._shutdown, self._bus = stage, settings, shutdown, bus
        self._leases = Leases(bus, stage.name, settings.lease_ms)
        self._gates = TurnGates()
        self._in_hand: dict[str, Work] = {}
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Work until shutdown, then finish or hand back what is in hand.

        Raises:
            BrokerGone: in a group; the work in hand was ended, its leases come back to someone.
            EngineLost: in a group; the work in hand was handed back.
        """
        await self._leases.open()
        await self._bus.listen_for_stops(self._on_stop)
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(self._keep())
            takers = [tasks.create_task(self._produce(tasks)), tasks.create_task(self._sweep(tasks))]
            await self._shutdown.stopping.wait()
            for taker in takers:
                taker.cancel()
            await self._leases.ready(self._stage.info(), ready=False)
            await self._drain()
            keeper.cancel()

    async def _produce(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            free = await self._free_slots()
            for lease in await self._leases.take(free):
                self._begin(tasks, lease)

    async def _sweep(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_ms / 4000)
            free = self._stage.slots - len(self._in_hand)
            if free > 0:
                for lease in await self._leases.sweep(free):
                    log.info("took over work", session=_session_of(lease), attempt=lease.fence)
                    self._begin(tasks, lease)

    async def _free_slots(self) -> int:
        while (free := self._stage.slots - len(self._in_hand)) <= 0:
            self._freed.clear()
            await self._freed.wait()
        return free

    async def _keep(self) -> None:
        """Renew the leases and say that we are ready, often enough to survive one miss."""
        while True:
            if not self._shutdown.stopping.is_set():
                await self._leases.ready(self._stage.info())
            held = [work.lease for work in self._in_hand.values()]
            for entry_id in await self._leases.renew(held):
                work = self._in_hand.get(entry_id)
                if work is not None:
                    work.stop("lost")
            await asyncio.sleep(self._settings.lease_ms / 3000)

    def _begin(self, tasks: asyncio.TaskGroup, lease: Lease) -> None:
        if lease.id in self._in_hand:  # our own, taken for dead while this process was stalled: the new lease counts
            self._in_hand.pop(lease.id).stop("lost")
        work = Work(self._bus, self._leases, self._stage.name, lease)
        self._in_hand[lease.id] = work
        metrics.work_busy.labels(self._stage.name).set(len(self._in_hand))
        work.task = tasks.create_task(self._handle(work), name=f"{self._stage.name} {work.session} {work.turn}")

    def _on_stop(self, session: str, turn: int, revision: int, only: bool) -> None:
        gate = self._gates.of(session)
        (gate.supersede if only else gate.advance)(turn, revision)
        if not self._stage.interruptible:
            return
        for work in tuple(self._in_hand.values()):
            if work.session == session and gate.is_stale(work.turn, work.revision):
                work.stop("stale")

    async def _handle(self, work: Work) -> None:
        outcome = "done"
        try:
            outcome = await self._do(work)
        except asyncio.CancelledError:
            if work.ended is None:
                raise  # the whole worker ends
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            outcome = work.ended
            if outcome == "stale":
                await work.finish(())
        finally:
            work.close()
            if self._in_hand.get(work.lease.id) is work:
                del self._in_hand[work.lease.id]
            metrics.work_busy.labels(self._stage.name).set(len(self._in_hand))
            metrics.work_done.labels(self._stage.name, outcome).inc()
            self._freed.set()

    async def _do(self, work: Work) -> str:
        if self._stage.interruptible and self._gates.is_stale(work.session, work.turn, work.revision):
            await work.finish(())
            return "stale"
        if work.attempt > CRASHES * self._settings.max_deliveries and not self._stage.long_lived:
            return await self._give_up(work, f"its workers ended {work.attempt - 1} times in the middle of it")
        try:
            frames = await self._stage.work(work)
        except BrokerGone:
            raise
        except EngineLost as error:
            held = [one.lease for one in self._in_hand.values()]
            if work.attempt >= self._settings.max_deliveries:  # it may be this very work that no device stands
                await self._give_up(work, f"{type(error).__name__}: {error}")
                held.remove(work.lease)
            await self._leases.hand_back(held)
            raise
        except Exception as error:  # the rim: whatever one piece of work does, the others go on
            return await self._failed(work, error)
        return "done" if await work.finish(frames) else "lost"

    async def _failed(self, work: Work, error: Exception) -> str:
        """Try again elsewhere, or give up: the session is told and lives on."""
        log.error("work failed", session=work.session, turn=work.turn, attempt=work.attempt, exc_info=error)
        if work.attempt < self._settings.max_deliveries:
            await self._leases.hand_back([work.lease])
            return "failed"
        return await self._give_up(work, f"{type(error).__name__}: {error}")

    async def _give_up(self, work: Work, reason: str) -> str:
        metrics.dead_letters.labels(self._stage.name).inc()
        body = codec.entry([codec.encode(work.frame)])
        self._bus.dead_letter(self._stage.name, work.lease.stream, work.lease.id, body, reason)
        await work.finish([StageFailed(self._stage.name, work.turn, work.revision, reason[:500])])
        return "dead"

    async def _drain(self) -> None:
        """Finish what is in hand until the deadline, hand back the rest."""
        deadline_s = 0.0 if self._stage.long_lived else self._shutdown.drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._in_hand:
                    self._freed.clear()
                    await self._freed.wait()
        rest = list(self._in_hand.values())
        for work in rest:
            work.stop("handed_back")
        if rest:
            await self._leases.hand_back([work.lease for work in rest])


def _session_of(lease: Lease) -> str:
    return str(getattr(lease.frame, "session", "?"))
