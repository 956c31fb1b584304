"""Admission control: the state of the stages as `/health` reports it, and whether a new session is accepted."""

import asyncio
import itertools
import math
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any, NamedTuple

import structlog

from services.edge.gateway.abilities import Abilities
from services.edge.gateway.forecast import StageForecast
from shared.bus.bus import Bus
from shared.bus.leases import StageStatus, stage_status
from shared.bus.status import BrokerStatus, broker_status
from shared.bus.versions import eviction_problem
from shared.observability import metrics
from shared.protocol.session import OMNI, SessionSettings
from shared.settings import STAGES, Settings

log = structlog.get_logger()

PERIOD_S = 0.5
BEHIND_S = 2.0
"""The queue age is averaged over about this time: a queue that is worked off at once does not refuse anybody."""
RETRY_AFTER_S = 5
"""Time after which a refused client may try again."""
BROKER_EVERY = 10
"""Readings of the stages per reading of the broker's own status."""

BROKER_GAUGES = (
    metrics.ready_workers, metrics.queue_age, metrics.oldest_pending, metrics.stream_length, metrics.stream_lag,
    metrics.broker_memory, metrics.broker_memory_limit, metrics.broker_clients, metrics.broker_commands,
    metrics.broker_keys,
)  # fmt: skip
"""Gauges whose values come from the broker."""


class Refusal(NamedTuple):
    """Why a new session is refused."""

    code: str
    """The label of the metric: stopping, broker, full, no_worker, behind or busy."""
    message: str
    """The text for the client."""


def stages_of(settings: SessionSettings) -> tuple[str, ...]:
    """The stages that a session with these settings needs. A turn that is answered as it sounds needs neither transcript nor voice."""
    if settings.route == OMNI:
        return ("vad", "llm")
    return STAGES if settings.spoken else ("vad", "asr", "llm")


NO_BROKER = Refusal("broker", "the broker is not reachable")


class Admission:
    """Reads the state of the stages from the broker every half second, and answers from the last reading."""

    def __init__(self, settings: Settings, check: Callable[[Abilities], None] = lambda abilities: None) -> None:
        """`check` is called once, when every stage has a ready worker for the first time. What it raises ends the watch."""
        self._settings, self._check, self._checked = settings, check, False
        self._stages: dict[str, StageStatus] = {}
        self._engines: dict[str, str] = {}
        self._forecasts: dict[str, StageForecast] = {stage: StageForecast() for stage in STAGES if stage != "vad"}
        self._behind_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._read_s = -math.inf
        self.broker: BrokerStatus | None = None
        """The last reading, up to 5 s old; None without a broker."""
        self._cloned: list[str] = []
        metrics.broker_up.labels("edge").set(0)

    async def watch(self, bus: Bus) -> None:
        """Keep reading until cancelled.

        Raises:
            BrokerGone: the connection to the broker was lost.
        """
        try:
            for number in itertools.count():
                await self.refresh(bus)
                if number % BROKER_EVERY == 0:
                    self._show_broker(await broker_status(bus))
                await asyncio.sleep(PERIOD_S)
        finally:
            self._stages, self.broker = {}, None
            metrics.broker_up.labels("edge").set(0)
            for gauge in BROKER_GAUGES:  # a stale value would win: alerts take the maximum over all edges
                gauge.clear()

    def _show_broker(self, broker: BrokerStatus) -> None:
        """Export the reading, and log a wrong memory policy once."""
        problem = eviction_problem(broker.eviction_policy)
        if problem and (self.broker is None or self.broker.eviction_policy != broker.eviction_policy):
            log.warning("broker is set up wrongly", reason=problem)
        self.broker = broker
        _export_status(broker)

    async def refresh(self, bus: Bus) -> None:
        self._stages = {stage: await stage_status(bus, stage) for stage in STAGES}
        self._note_load()
        self._engines = {stage: _engines(status) for stage, status in self._stages.items()}
        for stage, status in self._stages.items():
            metrics.ready_workers.labels(stage).set(len(status.workers))
            metrics.queue_age.labels(stage).set(status.queue_age_ms / 1000)
        self._cloned = list(await bus.voices()) if self.clones_voices() else []
        if not self._checked and all(status.workers for status in self._stages.values()):
            try:
                self._check(self.abilities())
            except ValueError:
                self._stages = {}  # the edge ends: nobody may take it for ready while it does
                raise
            self._checked = True

    def _note_load(self) -> None:
        now_s = asyncio.get_running_loop().time()
        period_s, self._read_s = now_s - self._read_s, now_s
        keep = math.exp(-period_s / BEHIND_S)
        for stage, status in self._stages.items():
            self._behind_ms[stage] = keep * self._behind_ms[stage] + (1 - keep) * status.queue_age_ms
        for stage, forecast in self._forecasts.items():
            forecast.note(self._stages[stage].in_hand, self._stages["vad"].in_hand, min(period_s, PERIOD_S))

    def refusal(self, needed: Collection[str] = STAGES, sessions: int = 0, *, load: bool = True) -> Refusal | None:
        """Why no session that needs these stages can be accepted now; None if one can.

        `sessions`: those of this edge. Some have begun since the last reading. `load`: the load counts; False for a session
        that goes on, because it is part of the load.
        """
        if not self._stages:
            return NO_BROKER
        sessions = max(sessions, self._stages["vad"].in_hand)
        for stage, status in self._stages.items():
            if stage not in needed:
                continue
            if not status.workers:
                wait = status.wait
                why = f": it waits for {wait.awaited} ({wait.reason})" if wait else ""
                return Refusal("no_worker", f"no {stage} worker is ready{why}")
            if not load:
                continue
            if min(status.queue_age_ms, self._behind_ms[stage]) > self._settings.queue_age_limit_ms:
                return Refusal("behind", f"the oldest {stage} job has waited for {status.queue_age_ms} ms")
            if sessions and self._is_busy(stage, status, sessions + 1):
                return Refusal("busy", f"the {stage} stage is busy with {sessions} sessions")
        return None

    def _is_busy(self, stage: str, status: StageStatus, sessions: int) -> bool:
        """Whether this many sessions would keep the stage busier than allowed. Unknown slots count as enough."""
        slots = sum(int(load.get("slots", 0)) for load in status.loads.values())
        if not slots:
            return False
        if stage == "vad":  # a session keeps a slot as long as it lives
            return sessions > slots
        return self._forecasts[stage].busy(sessions) > self._settings.load_limit * slots

    def statuses(self) -> dict[str, StageStatus]:
        """The last status of each stage; empty without a broker."""
        return self._stages

    def engine(self, stage: str) -> str:
        """The engines of the stage's ready workers, separated by commas; empty without workers."""
        return self._engines.get(stage, "")

    def models(self, stage: str) -> list[str]:
        """The models of the stage's ready workers; empty for engines without a model."""
        return sorted({str(worker["model"]) for worker in self._workers(stage) if worker.get("model")})

    def voice_languages(self) -> dict[str, str]:
        """The BCP 47 tag of each voice of the engine that speaks one language."""
        workers = self._workers("tts")
        return dict(workers[0].get("voice_languages", {})) if workers else {}

    def endpointing(self) -> str:
        """The engines that decide when a turn is over, separated by commas; empty without workers."""
        return ", ".join(sorted({str(worker.get("endpointing", "")) for worker in self._workers("vad")}))

    def voices(self) -> list[str]:
        """The voices that a session can choose: those of the tts engine, its default first, then the cloned ones."""
        return [*self.engine_voices(), *self._cloned]

    def engine_voices(self) -> list[str]:
        workers = self._workers("tts")
        return list(workers[0].get("voices", [])) if workers else []

    def clones_voices(self) -> bool:
        """Whether every ready tts worker can speak with a cloned voice: any of them may get the job."""
        return self._all_workers("tts", "clones")

    def accepts_audio(self) -> bool:
        """Whether every ready llm worker takes audio as input: any of them may get the job."""
        return self._all_workers("llm", "hears")

    def abilities(self) -> Abilities:
        """Return what a new session may ask for."""
        return Abilities(
            voices=tuple(self.voices()),
            speaks=self._common("tts", "languages"),
            understands=self._common("asr", "languages"),
            hears=self.accepts_audio(),
            options=self._common("llm", "options"),
        )

    def _common(self, stage: str, list_: str) -> frozenset[str]:
        """Return the values that every ready worker of a stage lists."""
        listed = [set(worker.get(list_, ())) for worker in self._workers(stage)]
        return frozenset(set.intersection(*listed)) if listed else frozenset()

    def _all_workers(self, stage: str, ability: str) -> bool:
        workers = self._workers(stage)
        return bool(workers) and all(worker.get(ability) for worker in workers)

    def _workers(self, stage: str) -> tuple[dict[str, Any], ...]:
        status = self._stages.get(stage)
        return status.workers if status else ()

    def stages(self) -> dict[str, Any]:
        """For each stage: ready workers, their engines, age of the oldest job in the queue, jobs in hand.

        Also what a worker waits for before it is ready, and for how many seconds; None: no worker waits.
        """
        return {stage: _shown(self._stages.get(stage, StageStatus((), 0, 0))) for stage in STAGES}


def _shown(status: StageStatus) -> dict[str, Any]:
    return {
        "ready": len(status.workers),
        "engine": _engines(status) or None,
        "queue_age_ms": status.queue_age_ms,
        "in_hand": status.in_hand,
        "waiting": None if status.wait is None else asdict(status.wait),
    }


def _engines(status: StageStatus) -> str:
    return ", ".join(sorted({str(worker.get("engine")) for worker in status.workers}))


def _export_status(broker: BrokerStatus) -> None:
    metrics.broker_up.labels("edge").set(1)
    metrics.broker_memory.labels("edge").set(broker.memory_bytes)
    metrics.broker_memory_limit.labels("edge").set(broker.memory_limit_bytes)
    metrics.broker_clients.labels("edge").set(broker.clients)
    metrics.broker_commands.labels("edge").set(broker.commands_per_s)
    metrics.broker_keys.labels("edge").set(broker.keys)
    for stream in broker.streams:
        metrics.stream_length.labels(stream.name).set(stream.length)
        if stream.name.startswith("jobs:"):
            metrics.stream_lag.labels(stream.name).set(math.nan if stream.lag is None else stream.lag)
            metrics.oldest_pending.labels(stream.name).set(stream.oldest_pending_s)
