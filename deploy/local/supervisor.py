"""Starts processes in order, restarts those that die, and stops all in the opposite order.

Processes have tiers: the lowest tier starts first and stops last. To stop a process, the supervisor sends SIGTERM, waits,
and sends SIGKILL if the process is still there. A process that dies is restarted with exponential back-off.
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

from deploy.local.process import Launch, Process, describe_exit, run_program, start

State = Literal["starting", "ready", "restarting", "failed", "stopped"]

BAD_SETTINGS = 2
"""Exit code of a service whose settings are wrong: a restart will not help."""
FAILED_AFTER = 5
"""A service that dies this many times in a row is shown as failed. It is still restarted."""
LAST_LINES = 30
"""Lines of output kept for each service."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A process to run."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    tier: int = 1
    needed: bool = True
    """The next tier starts only after this service is ready."""
    quiet: bool = False
    """Its output is shown only if it dies."""
    fds: tuple[int, ...] = ()
    """Descriptors that the process inherits."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays and limits of the supervisor, in seconds."""

    first_delay_s: float = 0.2
    """Delay before the second restart in a row; it doubles with each further death. The first restart is immediate."""
    longest_delay_s: float = 5.0
    healthy_s: float = 10.0
    """A service that lived this long restarts the back-off."""
    grace_s: float = 7.0
    """Time for a tier to stop before it is killed."""
    settle_s: float = 3.0
    """Time after a restart in which the probe may still report the dead predecessor as ready."""
    probe_s: float = 0.1
    """Interval of the probe while a service is not ready."""
    watch_s: float = 2.0
    """Interval of the probe while all services are ready."""


@dataclass(slots=True)
class Service:
    """A supervised process and its state."""

    spec: ServiceSpec
    state: State = "starting"
    process: Process | None = None
    started_s: float = 0.0
    """Time of the last start; monotonic clock."""
    restarts: int = 0
    seen_unready: bool = True
    """The probe has reported it as not ready since its last start, so that a later "ready" is about this process."""
    deaths: int = 0
    """Deaths in a row: none of these processes lived `healthy_s`."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.signal(number)


class Reporter(Protocol):
    """Receives the messages of the supervisor and the output of the services."""

    def say(self, text: str) -> None:
        """Print a message of the supervisor: one line."""

    def output(self, name: str, line: str) -> None:
        """Print a line that the service `name` wrote."""


class StartFailed(RuntimeError):
    """A service cannot start because its settings are wrong. It has said why; the message names it."""


class ReplaceFailed(RuntimeError):
    """A successor did not become ready; its predecessor still runs. The message says what happened."""


Probe = Callable[[], Awaitable[frozenset[str]]]
"""Returns the names of the services that are ready, within seconds. It raises nothing."""


class Supervisor:
    """Runs services until `stop` is called. `run` is called once."""

    def __init__(
        self,
        specs: Sequence[ServiceSpec],
        *,
        probe: Probe,
        reporter: Reporter,
        policy: Policy | None = None,
        launch: Launch = run_program,
    ) -> None:
        self.services = [Service(spec) for spec in specs]
        self.up = asyncio.Event()
        """Set when all services are ready for the first time; it stays set."""
        self._probe = probe
        self._reporter = reporter
        self._policy = policy or Policy()
        self._launch = launch
        self.stopping = False
        """`stop` was called, or the start failed."""
        self._forced = False
        self._changed = asyncio.Event()
        """A state or `stopping` changed. Only one task waits for it."""
        self._failure: StartFailed | None = None
        self._group: asyncio.TaskGroup
        self._tiers: dict[int, dict[asyncio.Task[None], Service]] = {}
        self._successors: list[Service] = []
        """Started, and not ready yet to replace a service."""

    def stop(self) -> None:
        """Stop all services in order. A second call kills them at once."""
        if self.stopping:
            self._forced = True
            self._kill()
        self.stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Start all services and keep them running until `stop`.

        Raises:
            StartFailed: a service exited with `BAD_SETTINGS` before all were ready.
        """
        tiers = sorted({service.spec.tier for service in self.services})
        try:
            async with asyncio.TaskGroup() as self._group:
                group = self._group
                probing = group.create_task(self._probe_states())
                for tier in tiers:
                    members = [service for service in self.services if service.spec.tier == tier]
                    self._tiers[tier] = {group.create_task(self._keep_running(service)): service for service in members}
                    await self._stopping_or(partial(_all_ready, [one for one in members if one.spec.needed]))
                    if self.stopping:
                        break
                await self._stopping_or(lambda: False)
                probing.cancel()
                for tasks in reversed(self._tiers.values()):
                    await self._stop_tier(tasks)
        finally:
            self._kill()  # only after an error are there processes left
        if self._failure is not None:
            raise self._failure

    async def replace(self, name: str, is_ready: Callable[[int], Awaitable[bool]], timeout_s: float) -> None:
        """Start a successor of a service, wait until `is_ready(pid)`, then stop the predecessor, which may drain.

        Raises:
            ReplaceFailed: the successor died, or was not ready in time. It is stopped, and the predecessor stays.
        """
        place, old = next((at, one) for at, one in enumerate(self.services) if one.spec.name == name)
        tasks = self._tiers[old.spec.tier]
        successor = Service(old.spec)
        self._successors.append(successor)
        task = self._group.create_task(self._keep_running(successor))
        tasks[task] = successor
        try:
            await self._until_ready(successor, is_ready, timeout_s)
        except ReplaceFailed:
            await self._stop_tier({task: successor})
            del tasks[task]
            raise
        finally:
            self._successors.remove(successor)
        successor.state = "ready"
        self.services[place] = successor
        (leaving,) = (one for one, service in tasks.items() if service is old)
        await self._stop_tier({leaving: old})
        del tasks[leaving]

    async def _until_ready(
        self, successor: Service, is_ready: Callable[[int], Awaitable[bool]], timeout_s: float
    ) -> None:
        name = successor.spec.name
        try:
            async with asyncio.timeout(timeout_s):
                while successor.process is None or not await is_ready(successor.process.pid):
                    if successor.deaths or successor.stopping.is_set():
                        raise ReplaceFailed(f"the successor of {name} ended: {' '.join(list(successor.lines)[-1:])}")
                    await asyncio.sleep(self._policy.probe_s)
        except TimeoutError:
            raise ReplaceFailed(f"the successor of {name} was not ready within {timeout_s:g} s") from None

    async def _stopping_or(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached()` is true, or the supervisor is stopping."""
        while not (self.stopping or reached()):
            self._changed.clear()
            await self._changed.wait()

    async def _stop_tier(self, tasks: Mapping[asyncio.Task[None], Service]) -> None:
        for service in tasks.values():
            service.stopping.set()
            service.signal(signal.SIGKILL if self._forced else signal.SIGTERM)
        _, late = await asyncio.wait(tasks, timeout=self._policy.grace_s)
        for task in late:
            self._reporter.say(f"{tasks[task].spec.name} did not stop within {self._policy.grace_s:g} s; killing it")
            tasks[task].signal(signal.SIGKILL)
        if late:
            await asyncio.wait(late)

    def _kill(self) -> None:
        for service in (*self.services, *self._successors):
            service.stopping.set()
            service.signal(signal.SIGKILL)

    async def _keep_running(self, service: Service) -> None:
        while not service.stopping.is_set():
            await self._run_process(service)
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

    async def _run_process(self, service: Service) -> None:
        service.started_s = time.monotonic()
        service.seen_unready = service.restarts == 0
        service.process = None
        service.lines.clear()

        def on_line(line: str) -> None:
            service.lines.append(line)
            if not service.spec.quiet:
                self._reporter.output(service.spec.name, line)

        try:
            service.process = await start(service.spec.argv, service.spec.env, service.spec.fds, self._launch)
        except OSError as error:
            on_line(f"{service.spec.argv[0]}: {error.strerror}")
            return
        if service.stopping.is_set():  # `stop` was called during the start
            service.signal(signal.SIGTERM)
        await service.process.wait(on_line)

    def _after_death(self, service: Service) -> float | None:
        """Count a death of a service that should run. Returns the delay until its restart, or None if the start failed."""
        policy, name = self._policy, service.spec.name
        code = service.process.exit_code if service.process is not None else None
        if time.monotonic() - service.started_s >= policy.healthy_s:
            service.deaths = 0
        service.deaths += 1
        if service.spec.quiet:
            for line in service.lines:
                self._reporter.output(name, line)
        if code == BAD_SETTINGS and not (self.up.is_set() or self.stopping):
            service.state = "failed"
            self._failure = StartFailed(f"{name} cannot start: see its message above")
            self.stop()
            return None
        service.state = "failed" if service.deaths >= FAILED_AFTER else "restarting"
        repeats = service.deaths - 1
        delay_s = min(policy.first_delay_s * 2.0 ** min(repeats - 1, 10), policy.longest_delay_s) if repeats else 0.0
        self._reporter.say(f"{name} {describe_exit(code)}; restarting {f'in {delay_s:g} s' if delay_s else 'now'}")
        return delay_s

    async def _probe_states(self) -> None:
        """Update the state of every service from the probe, until cancelled or stopping: a library may swallow a cancellation."""
        while not self.stopping:
            ready = await self._probe()
            for service in self.services:
                if service.alive:
                    self._update_state(service, ready=service.spec.name in ready)
            everything = _all_ready(self.services)
            if everything:
                self.up.set()
            await asyncio.sleep(self._policy.watch_s if everything else self._policy.probe_s)

    def _update_state(self, service: Service, *, ready: bool) -> None:
        if not ready:
            service.seen_unready = True
            service.state = "starting"
        elif service.seen_unready or time.monotonic() - service.started_s >= self._policy.settle_s:
            if service.state != "ready" and service.restarts and self.up.is_set():
                self._reporter.say(f"{service.spec.name} is ready again")
            service.state = "ready"
        self._changed.set()


def _all_ready(services: Sequence[Service]) -> bool:
    return all(service.state == "ready" for service in services)
