"""Finds processes that live and do not answer, and kills them, so that the supervisor starts successors.

A worker answers by the entry that says that it is ready, an edge by its /health, an embedded broker by PING. A process that has
not been ready since its start may load a model or wait for an endpoint, and is left alone.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from deploy.local import broker
from deploy.local.supervised import Reporter, Service
from deploy.local.supervisor import Supervisor
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.bus.leases import stage_status
from shared.settings import STAGES, Settings

HUNG_S = 10.0
"""A process that has not answered for this long is killed: twice the lease, and longer than most stalls of a machine."""
LOOK_S = 1.0
GAP_S = 6.0
"""After a longer time between two looks, silence is counted from the second one: this process or the machine stalled, too."""


class Silence:
    """For how long a process has not answered. Pure: callers pass the time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._pid = 0
        self._answered = False  # since the process started
        self._since_s = self._looked_s = 0.0

    def is_hung(self, pid: int, *, answers: bool, now_s: float) -> bool:
        """Take the result of a look at the process. Return whether it has hung."""
        if pid != self._pid:
            self._pid, self._answered = pid, False
        if answers or now_s - self._looked_s > GAP_S:
            self._since_s = now_s
        self._answered |= answers
        self._looked_s = now_s
        return self._answered and now_s - self._since_s >= self._limit_s

    def has_answered(self, pid: int) -> bool:
        """Whether this process has answered at a look, so that its silence counts from then on."""
        return pid == self._pid and self._answered


class HangWatch:
    """Watches the processes of a supervisor."""

    def __init__(
        self, supervisor: Supervisor, settings: Settings, base: str, folder: Path | None, reporter: Reporter,
        limit_s: float = HUNG_S,
    ) -> None:  # fmt: skip
        """`settings`: with the broker's URL. `base`: URL of the edge. `folder`: that of an embedded broker, if there is one."""
        self._supervisor, self._settings, self._reporter = supervisor, settings, reporter
        self._base, self._folder, self._limit_s = base, folder, limit_s
        self._silences: dict[str, Silence] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_workers())
            tasks.create_task(self._watch_one("edge", self._edge_answers))
            if self._folder is not None:
                folder = self._folder
                tasks.create_task(self._watch_one("broker", lambda: broker.answers(folder)))

    def has_answered(self, name: str) -> bool:
        """Whether the process that runs under this name now has answered."""
        pids = {service.spec.name: _pid(service) for service in self._supervisor.services}
        return name in self._silences and self._silences[name].has_answered(pids[name])

    async def _watch_one(self, name: str, answers: Callable[[], Awaitable[bool]]) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for service in self._supervisor.services:
                if service.spec.name == name:
                    pid = _pid(service)
                    self._judge(service, pid, answers=await answers())

    async def _edge_answers(self) -> bool:
        """Any answer counts: an edge without a broker says so."""
        try:
            async with httpx.AsyncClient(timeout=broker.CONNECT_TIMEOUT_S, trust_env=False, verify=False) as client:  # noqa: S501  this machine
                await client.get(f"{self._base}/health")
        except httpx.HTTPError:
            return False
        return True

    async def _watch_workers(self) -> None:
        while not self._supervisor.stopping:  # a bus that breaks while it is cancelled swallows the cancellation
            try:
                async with Bus.connect(self._settings, "up") as bus:
                    while not self._supervisor.stopping:
                        await asyncio.sleep(LOOK_S)
                        await self._look_at_workers(bus)
            except* (BrokerGone, BrokerRefused):
                pass  # nothing is known about the workers
            await asyncio.sleep(LOOK_S)

    async def _look_at_workers(self, bus: Bus) -> None:
        ready = {
            _process(worker["consumer"]) for stage in STAGES for worker in (await stage_status(bus, stage)).workers
        }
        if not ready:  # nobody answers: it is the broker that does not take their heartbeats
            return
        host = socket.gethostname()
        for service in self._supervisor.services:
            if service.spec.name.partition("-")[0] in STAGES:
                pid = _pid(service)
                self._judge(service, pid, answers=(host, str(pid)) in ready)

    def _judge(self, service: Service, pid: int, *, answers: bool) -> None:
        silence = self._silences.setdefault(service.spec.name, Silence(self._limit_s))
        if not silence.is_hung(pid, answers=answers, now_s=time.monotonic()):
            return
        if pid and pid == _pid(service) and not service.stopping.is_set():
            self._reporter.say(f"{service.spec.name} has not answered for {self._limit_s:g} s; killing it")
            service.signal(signal.SIGKILL)


def _pid(service: Service) -> int:
    """The process id; 0 if there is no process."""
    return service.process.pid if service.process is not None and service.alive else 0


def _process(consumer: str) -> tuple[str, str]:
    """Host and process id of a consumer."""
    parts = consumer.split(":")
    return ":".join(parts[1:-2]), parts[-2]
