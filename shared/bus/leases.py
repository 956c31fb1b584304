"""Leases on jobs: a stage's consumer group, its pending list, and its ready workers.

A job's entry in the pending list is its lease. The worker renews it while it works and deletes it at the end. Another
worker takes it over when the worker has died, which the broker knows by its connections, or has stopped renewing it.
The delivery count is the fencing token.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.bus import scripts
from shared.bus.bus import Bus
from shared.bus.channel import Channel
from shared.bus.connection import GroupExists, RedisConnection
from shared.bus.reader import BLOCK_MS
from shared.observability import metrics
from shared.protocol.frames import Frame, codec
from shared.protocol.streams import JOB_KINDS, PRESENT

READY_TTL_MS = 3000
HANDED_BACK = f"handed-back:{PRESENT}"
"""The consumer that holds what was handed back. It never lives, so that the next sweep takes it over."""
WAIT_TTL_MS = 10_000
"""How long an announced wait is shown. A worker withdraws it when it ends; after its death it expires."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a worker is not ready yet, although its settings are right."""

    awaited: str
    """What it waits for, such as a URL."""
    reason: str
    """Why that is not ready, in a few words."""
    seconds: int
    """For how long it has waited."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Wait":
        """Make one from its JSON object; fields of a later release are ignored."""
        return cls(**{name: facts[name] for name in cls.__annotations__})


@dataclass(frozen=True, slots=True)
class Lease:
    """A job that this process holds."""

    stream: bytes
    id: str
    fence: int
    """Number of deliveries, including this one."""
    frame: Frame


@dataclass(frozen=True, slots=True)
class StageStatus:
    workers: tuple[dict[str, Any], ...]
    """What each ready worker says about itself: see `Stage.info`."""
    queue_age_ms: int
    """Age of the oldest job that waits for a worker."""
    in_hand: int
    """Jobs in progress."""
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The load of each ready worker, by consumer: see `Worker.load`."""
    wait: Wait | None = None
    """What a worker that is not ready waits for; None: there is no such worker."""


class Leases:
    """The consumer group of one stage."""

    def __init__(self, bus: Bus, stage: str, lease_ms: int) -> None:
        self._bus, self._stage, self._lease_ms = bus, stage, lease_ms
        self._stream = bus.keys.jobs(stage)
        self._connection: RedisConnection
        self._swept = (0, 0)  # what SWEEP returned about the latest sweep

    async def open(self) -> None:
        """Create the group if it is missing, and open the connection that waits for jobs."""
        await self._bus.be_present()  # before any job: what a consumer holds that is not present is taken over
        with suppress(GroupExists):
            await self._bus.call(b"XGROUP", b"CREATE", self._stream, self._stage, b"0", b"MKSTREAM")
        self._connection = await self._bus.open_connection()

    async def take(self, count: int) -> list[Lease]:
        """Wait at most a second for new jobs; return at most `count`."""
        reply = await self._connection.call(
            b"XREADGROUP", b"GROUP", self._stage, self._bus.consumer, b"COUNT", count, b"BLOCK", BLOCK_MS,
            b"STREAMS", self._stream, b">", timeout_s=BLOCK_MS / 1000 + 5,
        )  # fmt: skip
        taken = [(entry_id, fields, 1) for _, entries in reply or () for entry_id, fields in entries]
        waited = metrics.queue_wait.labels(self._stage)
        for entry_id, _, _ in taken:
            waited.observe(self._bus.clock.age_s(entry_id))
        return self._leases(taken)

    async def sweep(self, count: int) -> list[Lease]:
        """Take over at most `count` jobs whose worker has died, or has not renewed their lease for `lease_ms`.

        The consumers of dead workers are removed. Call it several times in a quarter of `lease_ms`, with 0 too.
        """
        args = (self._stage, self._bus.consumer, self._lease_ms, count, *self._swept)
        *swept, taken = await self._bus.call_script(scripts.SWEEP, [self._stream], args)
        self._swept = (swept[0], swept[1])
        metrics.reclaims.labels(self._stage).inc(len(taken))
        return self._leases(taken)

    def _leases(self, taken: list[Any]) -> list[Lease]:
        """Decode the jobs. Entries that are not jobs of this stage are dead-lettered: they would crash every worker."""
        leases = []
        for entry_id, fields, fence in taken:
            decoded = self._bus.decode(self._stream, entry_id, fields)
            if decoded is not None and len(decoded[1]) == 1 and type(decoded[1][0]) in JOB_KINDS[self._stage]:
                leases.append(Lease(self._stream, entry_id.decode(), fence, decoded[1][0]))
                continue
            if decoded is not None:
                metrics.bad_frames.labels(self._stage).inc()
                kinds = ", ".join(type(frame).__name__ for frame in decoded[1]) or "a frame of a later release"
                body = dict(zip(fields[::2], fields[1::2], strict=False))[b"f"]
                error = f"not a job of stage {self._stage}: {kinds}"
                self._bus.dead_letter(self._stage, self._stream, entry_id.decode(), body, error)
            self._bus.send(b"XACK", self._stream, self._stage, entry_id)
            self._bus.send(b"XDEL", self._stream, entry_id)
        return leases

    async def renew(self, leases: Sequence[Lease]) -> set[str]:
        """Renew these leases. Return the ids of those that another worker holds."""
        return await self._pass(leases, self._bus.consumer)

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        """Give up these leases, so that any worker takes them over at once."""
        await self._pass(leases, HANDED_BACK)

    async def _pass(self, leases: Sequence[Lease], consumer: str) -> set[str]:
        if not leases:
            return set()
        args = (self._stage, self._bus.consumer, consumer, *(lease.id for lease in leases))
        return {entry_id.decode() for entry_id in await self._bus.call_script(scripts.RENEW, [self._stream], args)}

    def commit(
        self,
        lease: Lease,
        channel: Channel,
        session_key: bytes,
        frames: Sequence[Frame],
        on_reply: Callable[[Any], None],
        *,
        done: bool,
        checkpoint: bytes = b"",
    ) -> None:
        """Publish frames, save a checkpoint and, if `done`, end the lease: atomically, and only while it is ours.

        `on_reply` takes 1, or 0 if the lease was lost and nothing was done, or an exception.
        """
        keys, args = [lease.stream, session_key], []
        for frame in frames:
            body = codec.entry([codec.encode(frame)])
            for target in channel.targets(type(frame)):
                keys.append(target.key)
                args += [target.maxlen, int(target.create), target.life_s, body]
        head = (self._stage, self._bus.consumer, lease.id, lease.fence, b"1" if done else b"0", checkpoint)
        self._bus.send_script(scripts.COMMIT, keys, (*head, *args), on_reply)

    async def ready(self, info: dict[str, Any], load: dict[str, Any] | None = None, *, ready: bool = True) -> None:
        """Announce that this worker is ready, with its load, for `READY_TTL_MS`; or that it is no longer ready."""
        consumer, keys = self._bus.consumer, self._bus.keys
        member = json.dumps({"consumer": consumer, **info}, sort_keys=True)
        args = (member, READY_TTL_MS if ready else 0, consumer, json.dumps(load or {}))
        await self._bus.call_script(scripts.HEARTBEAT, [keys.ready(self._stage), keys.load(self._stage)], args)


async def stage_status(bus: Bus, stage: str) -> StageStatus:
    """Return a stage's ready workers, queue age, jobs in progress and loads."""
    keys = [bus.keys.ready(stage), bus.keys.load(stage), bus.keys.jobs(stage), bus.keys.waiting(stage)]
    members, age_ms, held, loads, waiting = await bus.call_script(scripts.STATUS, keys, (stage,))
    by_consumer = {name.decode(): json.loads(load) for name, load in zip(loads[::2], loads[1::2], strict=True)}
    wait = Wait.of(json.loads(waiting)) if waiting else None
    workers = tuple(worker for worker in map(json.loads, members) if worker["consumer"] in by_consumer)
    return StageStatus(workers, age_ms, held, by_consumer, wait)


async def announce_wait(bus: Bus, stage: str, wait: Wait | None) -> None:
    """Announce for `WAIT_TTL_MS` what a worker of the stage waits for; None: it waits no longer.

    If several workers of a stage wait, the latest announcement counts.
    """
    if wait is None:
        await bus.call(b"DEL", bus.keys.waiting(stage))
    else:
        await bus.call(b"SET", bus.keys.waiting(stage), json.dumps(asdict(wait)), b"PX", WAIT_TTL_MS)
