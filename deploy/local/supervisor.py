"""Keeps a set of processes alive, and ends them all, once and in order. It knows nothing of what they do.

Processes come in tiers: the lowest starts first, the highest stops first. To stop, a process is asked, waited
for, and killed where it does not go.
"""

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

from deploy.local.process import Process, describe_exit, start

State = Literal["starting", "ready", "restarting", "failed", "stopped"]

BAD_SETTINGS = 2
"""Exit code of a service whose settings are wrong: starting it again will not help."""
HOPELESS = 5
"""After so many deaths in a row a service counts as failed; it is still started again."""
LAST_LINES = 30


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A process to keep alive."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    tier: int = 1
    needed: bool = True
    """The tiers above start when it is ready, and not before."""
    quiet: bool = False
    """What it writes is shown only when it dies."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Times, in seconds."""

    first_delay_s: float = 0.2
    longest_delay_s: float = 5.0
    healthy_s: float = 30.0
    """After so long a life, a death is the first one again."""
    grace_s: float = 7.0
    """How long a tier may take to stop before it is killed."""
    settle_s: float = 3.0
    """For so long after a restart, what is called ready may be the predecessor, not yet missed."""
    probe_s: float = 0.1
    """Between two looks while something is not ready."""
    watch_s: float = 2.0
    """Between two looks while everything is."""


@dataclass(slots=True)
class Service:
    """A process being kept alive: what a status line shows."""

    spec: ServiceSpec
    state: State = "starting"
    process: Process | None = None
    started_s: float = 0.0
    """Monotonic clock."""
    restarts: int = 0
    missed: bool = True
    """It was seen not to be ready since its last start."""
    deaths: int = 0
    """In a row, without a healthy life between them."""
    refusals: int = 0
    """Deaths in a row that said that the settings are wrong."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.signal(number)


class Reporter(Protocol):
    """Who is told what happens."""

    def say(self, text: str) -> None:
        """Something that the person should know, on one line."""

    def output(self, name: str, line: str) -> None:
        """A line that a service wrote."""


class StartFailed(RuntimeError):
    """The system cannot come up; the message is what the service said."""


Probe = Callable[[], Awaitable[frozenset[str]]]
"""The names of the services that are ready. It raises nothing and returns within seconds."""


class Supervisor:
    """Runs services until it is told to stop. `run` is called once."""

    def __init__(
        self, specs: Sequence[ServiceSpec], *, probe: Probe, reporter: Reporter, policy: Policy | None = None
    ) -> None:
        self.services = [Service(spec) for spec in specs]
        self.up = asyncio.Event()
        """Everything was ready at the same time, once."""
        self._probe = probe
        self._reporter = reporter
        self._policy = policy or Policy()
        self.stopping = False
        """Told to stop."""
        self._forced = False
        self._news = asyncio.Event()
        """A state changed, or we are to stop. One task waits for it."""
        self._failure: StartFailed | None = None

    def stop(self) -> None:
        """Stop everything in order; called again: kill it."""
        if self.stopping:
            self._forced = True
            self._kill()
        self.stopping = True
        self._news.set()

    async def run(self) -> None:
        """Start everything and keep it alive until `stop`.

        Raises:
            StartFailed: a service says again and again that its settings are wrong.
        """
        tiers = sorted({service.spec.tier for service in self.services})
        running: list[dict[asyncio.Task[None], Service]] = []
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                for tier in tiers:
                    members = [service for service in self.services if service.spec.tier == tier]
                    running.append({group.create_task(self._keep(service)): service for service in members})
                    await self._until(partial(_all_ready, [one for one in members if one.spec.needed]))
                    if self.stopping:
                        break
                await self._until(lambda: False)
                watching.cancel()
                for tasks in reversed(running):
                    await self._end(tasks)
        finally:
            self._kill()  # finds something only where something above went wrong
        if self._failure is not None:
            raise self._failure

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Until it is reached, or we are to stop."""
        while not (self.stopping or reached()):
            self._news.clear()
            await self._news.wait()

    async def _end(self, tasks: Mapping[asyncio.Task[None], Service]) -> None:
        for service in tasks.values():
            service.stopping.set()
            service.signal(signal.SIGKILL if self._forced else signal.SIGTERM)
        _, late = await asyncio.wait(tasks, timeout=self._policy.grace_s)
        for task in late:
            self._reporter.say(f"{tasks[task].spec.name} does not stop; killing it")
            tasks[task].signal(signal.SIGKILL)
        if late:
            await asyncio.wait(late)

    def _kill(self) -> None:
        for service in self.services:
            service.stopping.set()
            service.signal(signal.SIGKILL)

    async def _keep(self, service: Service) -> None:
        while not service.stopping.is_set():
            await self._live(service)
            if service.stopping.is_set():
                break
            delay_s = self._after_death(service)
            if delay_s is None:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await service.stopping.wait()
            service.restarts += 1
        service.state = "stopped"

    async def _live(self, service: Service) -> None:
        """One life of the process."""
        service.started_s = time.monotonic()
        service.missed = service.restarts == 0
        service.process = None
        service.lines.clear()

        def heard(line: str) -> None:
            service.lines.append(line)
            if not service.spec.quiet:
                self._reporter.output(service.spec.name, line)

        try:
            service.process = await start(service.spec.argv, service.spec.env)
        except OSError as error:
            heard(f"{service.spec.argv[0]}: {error.strerror}")
            return
        if service.stopping.is_set():  # told to stop while it was being started
            service.signal(signal.SIGTERM)
        await service.process.wait(heard)

    def _after_death(self, service: Service) -> float | None:
        """Book a death that nobody asked for. Returns the delay until the next start; None: there will be none."""
        policy, name = self._policy, service.spec.name
        code = service.process.exit_code if service.process is not None else None
        if time.monotonic() - service.started_s >= policy.healthy_s:
            service.deaths = service.refusals = 0
        service.deaths += 1
        service.refusals = service.refusals + 1 if code == BAD_SETTINGS else 0
        if service.refusals >= HOPELESS and not (self.up.is_set() or self.stopping):
            service.state = "failed"
            self._failure = StartFailed("\n".join((f"{name} cannot start:", *service.lines)))
            self.stop()
            return None
        if service.spec.quiet:
            for line in service.lines:
                self._reporter.output(name, line)
        service.state = "failed" if service.deaths >= HOPELESS else "restarting"
        # Settings do not heal: nobody is to wait long for the end of a start that cannot succeed.
        doublings = 0 if service.refusals and not self.up.is_set() else min(service.deaths - 1, 10)
        delay_s = min(policy.first_delay_s * 2.0**doublings, policy.longest_delay_s)
        self._reporter.say(f"{name} {describe_exit(code)}; starting it again in {delay_s:g} s")
        return delay_s

    async def _watch(self) -> None:
        """Keep every `state` true to what the probe says."""
        while True:
            ready = await self._probe()
            for service in self.services:
                if service.alive:
                    self._see(service, service.spec.name in ready)
            everything = _all_ready(self.services)
            if everything:
                self.up.set()
            await asyncio.sleep(self._policy.watch_s if everything else self._policy.probe_s)

    def _see(self, service: Service, ready: bool) -> None:
        if not ready:
            service.missed = True
            service.state = "starting"
        elif service.missed or time.monotonic() - service.started_s >= self._policy.settle_s:
            if service.state != "ready" and service.restarts and self.up.is_set():
                self._reporter.say(f"{service.spec.name} is ready again")
            service.state = "ready"
        self._news.set()


def _all_ready(services: Sequence[Service]) -> bool:
    return all(service.state == "ready" for service in services)
