"""Workers of the real stages on a broker in memory."""

import asyncio
import random
from collections.abc import Sequence

from shared.protocol.frames import Frame
from shared.settings import Settings
from shared.worker.worker import Stage
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedStage

SLOTS = 1000


async def start_stages(stages: Sequence[Stage], settings: Settings, tasks: asyncio.TaskGroup) -> SimulatedBus:
    """Load the stages and start a worker for each. Returns their broker; jobs of other stages are dropped.

    Raises:
        UnknownEngine: an engine is not installed.
    """
    bus = SimulatedBus(random.Random(1), (0.0, 0.0))
    workers = {}
    for stage in stages:
        await stage.load()
        workers[stage.name] = SimulatedStage(stage, settings, bus, tasks, kill_chance=0.0, lease_s=0.0)

    def on_job(stage: str, stream: bytes, entry_id: str, frame: Frame) -> None:
        if stage in workers:
            workers[stage].take(stream, entry_id, frame)

    bus.on_job = on_job
    return bus
