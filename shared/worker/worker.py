"""The worker: takes jobs of one stage, renews their leases and publishes the results.

One task group with named parts: the producer takes as many jobs as there are free slots, the sweeper takes over
the jobs of dead workers, the keeper renews leases and sends heartbeats, and a bounded number of handlers do the jobs. The stage
works with frames and never sees the broker: it gets a `Work` (`shared/worker/work.py`).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import structlog
from structlog.contextvars import bind_contextvars

from shared.bus.connection import BrokerGone
from shared.bus.leases import Lease, Leases
from shared.bus.session_store import SessionStore
from shared.engines.registry import EngineLost
from shared.observability import metrics, tracing
from shared.protocol.frames import Frame, StageFailed, codec
from shared.protocol.reasons import STAGE_FAILED
from shared.protocol.turns import TurnGates
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.work import JobFailed, Work

log = structlog.get_logger()

CRASHES = 2
"""A job is given up after `CRASHES * max_deliveries` deliveries without a result: its worker died each time.

The limit is higher than for failures because another job may have killed the worker.
"""

SWEEP_S = 0.1
"""Interval of the search for jobs of dead workers."""
BEAT_S = 1.0
"""Longest interval of heartbeats and renewals."""

OLD_S = 5.0
"""A job that has waited for longer is done only if its session is still there. Newer ones are not worth a round trip."""

LoadCallback = Callable[[], dict[str, Any]]
"""Returns the process's load, as JSON types."""


class Stage(Protocol):
    """The part of a worker that does the jobs."""

    name: str
    slots: int
    """Number of concurrent jobs."""
    long_lived: bool
    """Its jobs last as long as a session. At shutdown they are handed back at once instead of being finished."""

    interruptible: bool
    """Its jobs are stopped when their turn is stale."""

    async def load(self) -> None:
        """Load the engine and warm it up.

        Raises:
            EngineNotReady: something that the engine needs is not ready yet; load a new stage later.
        """
        ...

    def info(self) -> dict[str, Any]:
        """Return what a ready worker tells clients: `engine` and more, as JSON types."""
        ...

    async def work(self, work: Work) -> Sequence[Frame]:
        """Do one job. The returned frames are published together with the end of the lease."""
        ...

    async def close(self) -> None: ...


class Worker:
    """Runs one stage on one bus."""

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        shutdown: Shutdown,
        bus: SessionStore,
        leases: Leases,
        process_load: LoadCallback = dict,
    ) -> None:
        """`process_load`: the load of the process, sent with the worker's own in the heartbeat."""
        self._stage, self._settings, self._shutdown, self._bus, self._leases = stage, settings, shutdown, bus, leases
        self._gates = TurnGates()
        self._in_hand: dict[str, Work] = {}
        self._freed = asyncio.Event()
        self._process_load, self._engine = process_load, str(stage.info().get("engine", ""))
        self._attributes = tracing.stage_attributes(stage.name, self._engine, settings)
        metrics.slots.labels(stage.name).set(stage.slots)
        metrics.work_busy.labels(stage.name).set(0)
        if not stage.long_lived:
            metrics.stage_duration.labels(stage.name, self._engine)

    async def run(self) -> None:
        """Work until shutdown, then finish or hand back the jobs in progress.

        Raises:
            BrokerGone: in a group; the jobs in progress were stopped, and their leases expire.
            EngineLost: in a group; the jobs in progress were handed back.
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
            free = self._stage.slots - len(self._in_hand)
            for lease in await self._leases.sweep(max(0, free)):
                log.info("work reclaimed", session=getattr(lease.frame, "session", "?"), attempt=lease.fence)
                self._begin(tasks, lease)
            await asyncio.sleep(SWEEP_S)

    async def _free_slots(self) -> int:
        while (free := self._stage.slots - len(self._in_hand)) <= 0:
            self._freed.clear()
            await self._freed.wait()
        return free

    async def _keep(self) -> None:
        """Renew the leases and send heartbeats, often enough that one may be missed."""
        while True:
            if not self._shutdown.stopping.is_set():
                await self._leases.ready(self._stage.info(), self.load())
            held = [work.lease for work in self._in_hand.values()]
            for entry_id in await self._leases.renew(held):
                work = self._in_hand.get(entry_id)
                if work is not None:
                    work.stop("lost")
            await asyncio.sleep(min(self._settings.lease_ms / 3000, BEAT_S))

    def load(self) -> dict[str, Any]:
        """Return this worker's slots and jobs in progress, and the process's load, as JSON types."""
        return {"slots": self._stage.slots, "in_hand": len(self._in_hand), **self._process_load()}

    def _begin(self, tasks: asyncio.TaskGroup, lease: Lease) -> None:
        if lease.id in self._in_hand:  # our own job, reclaimed after this process had stalled: the new lease is valid
            self._in_hand.pop(lease.id).stop("lost")
        work = Work(self._bus, self._leases, self._stage.name, lease)
        self._in_hand[lease.id] = work
        metrics.work_busy.labels(self._stage.name).set(len(self._in_hand))
        work.task = tasks.create_task(self._handle(work), name=f"{self._stage.name} {work.session} {work.turn}")
        work.task.add_done_callback(lambda _: self._release(work))

    def _release(self, work: Work) -> None:
        """Free the slot of a job whose task has ended in any way."""
        work.close()
        if self._in_hand.get(work.lease.id) is work:
            del self._in_hand[work.lease.id]
        metrics.work_busy.labels(self._stage.name).set(len(self._in_hand))
        self._freed.set()

    def _on_stop(self, session: str, turn: int, revision: int, only: bool) -> None:
        gate = self._gates.of(session)
        (gate.supersede if only else gate.advance)(turn, revision)
        if not self._stage.interruptible:
            return
        for work in tuple(self._in_hand.values()):
            if work.session == session and gate.is_stale(*work.position):
                work.stop("stale")

    async def _handle(self, work: Work) -> None:
        outcome, began_s = "lost", time.monotonic()
        work.begun = True
        if tracing.is_tracing() and not self._stage.long_lived:
            work.begin_span(self._attributes)
        self._bind_logs(work)
        try:
            outcome = await self._do(work)
        except asyncio.CancelledError:
            if work.ended is None:
                raise  # the whole worker is cancelled
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            outcome = work.ended
            if outcome == "stale":
                await work.finish(())
        finally:
            self._measure(outcome, time.monotonic() - began_s)
            if work.trace:
                work.span.set_attribute("parley.outcome", outcome)
                work.span.end()

    def _bind_logs(self, work: Work) -> None:
        """Add session, turn, revision and trace to everything that this task logs."""
        if self._stage.long_lived:
            bind_contextvars(session=work.session)
            return
        bind_contextvars(session=work.session, turn=work.turn, revision=work.revision)
        if work.trace:
            bind_contextvars(trace_id=tracing.trace_id(work.trace))

    def _measure(self, outcome: str, took_s: float) -> None:
        name = self._stage.name
        metrics.work_done.labels(name, outcome).inc()
        if outcome == "done" and not self._stage.long_lived:
            metrics.stage_duration.labels(name, self._engine).observe(took_s)
        elif outcome == "stale":
            metrics.wasted_work.labels(name).inc(took_s)

    async def _do(self, work: Work) -> str:
        if work.ended in ("lost", "handed_back"):
            return work.ended
        if self._stage.interruptible and self._gates.is_stale(work.session, *work.position):
            await work.finish(())
            return "stale"
        if not self._stage.long_lived and work.waited_s > OLD_S and not await work.session_lives():
            await work.finish(())  # a client that is gone may leave thousands of jobs
            return "stale"
        if work.attempt > CRASHES * self._settings.max_deliveries and not self._stage.long_lived:
            return await self._give_up(work, f"{work.attempt - 1} workers died or stopped while they worked on it")
        try:
            frames = await self._stage.work(work)
        except BrokerGone:
            raise
        except EngineLost as error:
            tracing.fail(work.span, error)
            held = [one.lease for one in self._in_hand.values()]
            if work.attempt >= self._settings.max_deliveries:  # this job may be the cause of the failure
                await self._give_up(work, f"{type(error).__name__}: {error}")
                held.remove(work.lease)
            await self._leases.hand_back(held)
            raise
        except JobFailed as error:
            log.warning("work failed", attempt=work.attempt, reason=str(error))
            tracing.fail(work.span, error)
            return await self._give_up(work, str(error), error.code)
        except Exception as error:  # one failed job must not affect the others
            return await self._failed(work, error)
        return "done" if await work.finish(frames) else "lost"

    async def _failed(self, work: Work, error: Exception) -> str:
        """Hand the job back for another attempt, or give up; the session continues."""
        log.error("work failed", attempt=work.attempt, exc_info=error)
        tracing.fail(work.span, error)
        if work.attempt < self._settings.max_deliveries:
            await self._leases.hand_back([work.lease])
            return "failed"
        return await self._give_up(work, f"{type(error).__name__}: {error}")

    async def _give_up(self, work: Work, reason: str, code: str = STAGE_FAILED) -> str:
        metrics.dead_letters.labels(self._stage.name).inc()
        body = codec.entry([codec.encode(work.frame)])
        self._bus.dead_letter(self._stage.name, work.lease.stream, work.lease.id, body, reason)
        await work.finish([StageFailed(self._stage.name, work.turn, work.revision, reason[:500], code)])
        return "dead"

    async def _drain(self) -> None:
        """Finish the jobs in progress until the deadline, then hand back the rest."""
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
