"""How the stages are doing, seen from the edge: what `/health` says and whether a new session is taken."""

import asyncio
from typing import Any

from shared.bus import Bus
from shared.leases import StageStatus, stage_status
from shared.settings import STAGES, Settings

PERIOD_S = 0.5


class Monitor:
    """Asks the broker every half second; answers from what it learnt last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stages: dict[str, StageStatus] = {}
        self._cloned: list[str] = []
        self._changed = asyncio.Event()

    async def watch(self, bus: Bus) -> None:
        """Keep asking; ends with `BrokerGone`."""
        try:
            while True:
                await self.look(bus)
                await asyncio.sleep(PERIOD_S)
        finally:
            self._stages = {}

    async def look(self, bus: Bus) -> None:
        """Ask now."""
        self._stages = {stage: await stage_status(bus, stage) for stage in STAGES}
        self._cloned = list(await bus.voices()) if self.clones() else []

    def refusal(self) -> str | None:
        """Why no session can be taken now, or None."""
        if not self._stages:
            return "the broker is not reachable"
        for stage, status in self._stages.items():
            if not status.workers:
                return f"no {stage} worker is ready"
            if status.queue_age_ms > self._settings.queue_age_limit_ms:
                return f"{stage} is {status.queue_age_ms} ms behind"
        return None

    def voices(self) -> list[str]:
        """What the ready tts workers can speak with: the engine's own, its default first, and the cloned ones."""
        return [*self.engine_voices(), *self._cloned]

    def engine_voices(self) -> list[str]:
        """The voices that the tts engine has by itself."""
        status = self._stages.get("tts")
        return list(status.workers[0].get("voices", [])) if status and status.workers else []

    def clones(self) -> bool:
        """Whether every ready tts worker can speak with a cloned voice."""
        status = self._stages.get("tts")
        workers = status.workers if status else ()
        return bool(workers) and all(worker.get("clones") for worker in workers)

    def hears(self) -> bool:
        """Whether every ready llm worker can answer what it hears: any of them may be asked."""
        status = self._stages.get("llm")
        workers = status.workers if status else ()
        return bool(workers) and all(worker.get("hears") for worker in workers)

    def stages(self) -> dict[str, Any]:
        """Each stage: ready workers, their engines, age of the oldest work that nobody has taken, work in hand."""
        return {stage: _shown(self._stages.get(stage)) for stage in STAGES}


def _shown(status: StageStatus | None) -> dict[str, Any]:
    if status is None:
        return {"ready": 0, "engine": None, "queue_age_ms": 0, "in_hand": 0}
    engines = sorted({str(worker.get("engine")) for worker in status.workers})
    return {
        "ready": len(status.workers),
        "engine": ", ".join(engines) or None,
        "queue_age_ms": status.queue_age_ms,
        "in_hand": status.in_hand,
    }
