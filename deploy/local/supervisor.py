"""Starts services in order, keeps them running, replaces them, and stops all in the opposite order.

Services have tiers: the lowest tier starts first and stops last. To stop a process, the supervisor sends SIGTERM, waits,
and sends SIGKILL if the process is still there. `supervised` restarts a process that dies.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from deploy.local.process import Launch, run_program
from deploy.local.supervised import Policy, Reporter, Service, ServiceSpec


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
        self.services = [Service(spec, launch) for spec in specs]
        self.up = asyncio.Event()
        """Set when all services are ready for the first time; it stays set."""
        self._probe = probe
        self._reporter = reporter
        self._policy = policy or Policy()
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
            self._kill()  # processes are left only after an error
        if self._failure is not None:
            raise self._failure

    async def replace(self, name: str, is_ready: Callable[[int], Awaitable[bool]], timeout_s: float) -> None:
        """Start a successor of a service, wait until `is_ready(pid)`, then stop the predecessor, which may drain.

        Raises:
            ReplaceFailed: the successor died, or was not ready in time. It is stopped, and the predecessor stays.
        """
        place, old = next((at, one) for at, one in enumerate(self.services) if one.spec.name == name)
        tasks = self._tiers[old.spec.tier]
        successor = Service(old.spec, old.launch)
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
        if not await service.keep_running(self._policy, self._reporter, self._is_starting):
            self._failure = StartFailed(f"{service.spec.name} cannot start: see its message above")
            self.stop()

    def _is_starting(self) -> bool:
        return not (self.up.is_set() or self.stopping)

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
