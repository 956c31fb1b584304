"""The workers of a simulation: a worker can be killed in the middle of anything.

Its leases go to another worker after a while, with the next fence. A killed worker may hang for a while and write on as a
zombie.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from shared.bus.channel import Channel
from shared.bus.leases import Lease, Leases
from shared.protocol.frames import Frame
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.worker import Stage, Worker
from tests.support.simulated_bus import SimulatedBus, SimulatedChannel

ZOMBIES = 0.25
"""Share of the deaths after which the dead worker writes on."""
LONGEST_LIFE_S = 0.6
"""Within this time a worker that is to die dies in the middle of its work."""


class SimulatedLeases(Leases):
    """Who holds which work, by its fence. No broker is asked."""

    def __init__(self, bus: SimulatedBus) -> None:
        self.memory = bus
        self.fences: dict[str, int] = {}

    def commit(
        self, lease: Lease, channel: Channel, session_key: bytes, frames: Sequence[Frame],
        on_reply: Callable[[Any], None], *, done: bool, checkpoint: bytes = b"",
    ) -> None:  # fmt: skip
        if isinstance(channel, SimulatedChannel) and channel.dead:
            return
        if self.fences.get(lease.id) != lease.fence:
            self.memory.loop.call_soon(on_reply, 0)
            return
        for frame in frames:
            channel.publish(frame)
        if checkpoint:
            self.memory.checkpoints[session_key] = checkpoint
        if done:
            del self.fences[lease.id]
        self.memory.loop.call_soon(on_reply, 1)

    async def hand_back(self, leases: Sequence[Lease]) -> None: ...


class SimulatedStage:
    """The workers of one stage: one at a time, killed now and then."""

    def __init__(
        self, stage: Stage, settings: Settings, bus: SimulatedBus, tasks: asyncio.TaskGroup, kill_chance: float,
        lease_s: float,
    ) -> None:  # fmt: skip
        self.stage, self._settings, self._bus, self._tasks = stage, settings, bus, tasks
        self._kill_chance, self._lease_s = kill_chance, lease_s
        self._leases = SimulatedLeases(bus)
        self.kills = 0
        self._worker = self._hire()
        bus.on_stop.append(lambda *message: self._worker._on_stop(*message))  # the subscription's callback

    @property
    def in_hand(self) -> int:
        """Slots in use."""
        return int(self._worker.load()["in_hand"])

    @property
    def leases(self) -> dict[str, int]:
        """The fence of each piece of work that is not done, by its entry."""
        return self._leases.fences

    def _hire(self) -> Worker:
        return Worker(self.stage, self._settings, Shutdown(0), self._bus, self._leases)

    def take(self, stream: bytes, entry_id: str, frame: Frame, fence: int = 1) -> None:
        """A job arrives, or comes back after its worker died."""
        self._bus.loop.call_later(self._bus.delay_s(), self._begin, Lease(stream, entry_id, fence, frame))

    def _begin(self, lease: Lease) -> None:
        self._leases.fences[lease.id] = lease.fence
        self._worker._begin(self._tasks, lease)  # as the producer does
        if self._bus.chance.random() < self._kill_chance and lease.fence < self._settings.max_deliveries:
            self._bus.loop.call_later(self._bus.chance.uniform(0, LONGEST_LIFE_S), self._kill, lease.id)

    def _kill(self, lease_id: str) -> None:
        """Kill the worker that holds this lease."""
        if lease_id not in self._leases.fences:
            return
        self.kills += 1
        dead, self._worker = self._worker, self._hire()
        zombie = self._bus.chance.random() < ZOMBIES
        for work in tuple(dead._in_hand.values()):
            if not zombie:
                channel = work._channel
                assert isinstance(channel, SimulatedChannel)
                channel.dead = True
                work.stop("lost")
            lease = work.lease
            if self._leases.fences.get(lease.id) == lease.fence:
                self._leases.fences[lease.id] = lease.fence + 1
                self._bus.loop.call_later(
                    self._lease_s, self.take, lease.stream, lease.id, lease.frame, lease.fence + 1
                )
