"""A whole real system for the length of a `with`: a private broker, four stages and the edge, each a process."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx
from pydantic import SecretStr

from deploy.local.address import base_url, open_listener
from deploy.local.broker import BrokerError, broker_argv, find_program, private_folder, socket_url
from deploy.local.hang import HangWatch
from deploy.local.process import Launch, run_program
from deploy.local.standby import Standby
from deploy.local.supervised import Policy, ServiceSpec
from deploy.local.supervisor import StartFailed, Supervisor
from deploy.local.up import BEYOND_DRAIN_S, BROKER_TIER, HEALTH_TIMEOUT_S, Broker, HealthProbe, service_specs
from shared.settings import STAGES, Settings
from tests.support.waiting import HANG_S

__all__ = ["CLASSIC", "SCRIPTED", "BrokerError", "StartFailed", "System", "running_system"]

LOOK_S = 0.05
LAST_LINES = 200
launch: Launch = run_program
"""How the processes of a system are started. The tests set a `ForkServer`'s."""

CLASSIC = {"PARLEY_PROFILE": "classic"}
"""Engines that need no model."""

SCRIPTED = {
    **CLASSIC,
    "PARLEY_ASR_ENGINE": "scripted",
    "PARLEY_LLM_ENGINE": "scripted",
    "PARLEY_TTS_ENGINE": "scripted",
}
"""Engines that cost nothing and answer by a script: what remains is the pipeline."""


PATIENT = {"PARLEY_TURN_DEADLINE_S": str(HANG_S), "PARLEY_REPLY_DEADLINE_S": str(HANG_S)}
"""A turn on a busy machine is late, and has not failed."""


class Journal:
    """Keeps the last lines of the system's output, and what happened to its processes."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.events: list[str] = []

    def say(self, text: str) -> None:
        self.events.append(text)
        self.lines.append(text)

    def output(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")


@dataclass(slots=True)
class System:
    """A system that was ready when this was made."""

    url: str
    """http://host:port"""
    broker: str
    """Name and version of its broker."""
    broker_url: str
    journal: Journal
    supervisor: Supervisor = field(repr=False)
    standby: Standby = field(repr=False)
    watch: HangWatch | None = field(default=None, repr=False)
    """Kills what hangs, if `hung_s` was given."""

    @property
    def stream_url(self) -> str:
        """The lean protocol at 16 kHz."""
        return f"ws{self.url.removeprefix('http')}/ws?rate=16000"

    @property
    def pids(self) -> dict[str, int]:
        """The running processes, by name."""
        return {
            service.spec.name: service.process.pid
            for service in self.supervisor.services
            if service.process is not None and service.alive
        }


def settings_of(env: Mapping[str, str]) -> Settings:
    """The settings of a process with this environment."""
    prefix = "PARLEY_"
    return Settings.model_validate(
        {name.removeprefix(prefix).lower(): env[name] for name in env if name.startswith(prefix)}
    )


@contextlib.asynccontextmanager
async def running_system(
    env: Mapping[str, str],
    change: Callable[[ServiceSpec], ServiceSpec] = lambda spec: spec,
    workers: int = 1,
    hung_s: float | None = None,
    standby: bool = False,
) -> AsyncIterator[System]:
    """Start a system on a free port, `env` on top of the environment; stop it in order at the end.

    `change` may run a service in another way. `workers`: of each stage; the second of tts is called `tts-2`. `hung_s`:
    processes that do not answer for this long are killed; None: nobody looks. `standby`: keep a process in readiness, as
    `parley up` does.

    Raises:
        StartFailed: a process died before everything was ready, or the start hangs; the message holds what the
            processes wrote.
        BrokerError: no broker that can be used.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PARLEY_REDIS_URL", "PARLEY_PORT")}
    environ = {**PATIENT, **inherited, **env}
    settings = settings_of(environ)
    journal = Journal()
    program = await find_program(environ.get("PATH"), journal.say)
    with private_folder() as folder, contextlib.ExitStack() as held:
        spec = ServiceSpec("broker", broker_argv(program, folder), environ, tier=BROKER_TIER, quiet=True)
        broker = Broker(socket_url(folder), spec, folder)
        listener = held.enter_context(open_listener(settings.host, settings.port if "PARLEY_PORT" in env else 0))
        port = int(listener.getsockname()[1])
        url = base_url(settings.host, port)
        specs = [
            change(one) for one in service_specs(settings, environ, broker, port, text_logs=False, listener=listener)
        ]
        specs += [
            replace(one, name=f"{one.name}-{number}")
            for number in range(2, workers + 1)
            for one in specs
            if one.name in STAGES
        ]
        async with httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False) as client:
            policy = Policy(grace_s=settings.drain_ms / 1000 + BEYOND_DRAIN_S)
            health = HealthProbe(client, url, folder)

            async def probe() -> frozenset[str]:
                ready = await health()
                return ready | {one.name for one in specs if one.name.partition("-")[0] in ready}

            spare = Standby(specs[-1].env)
            supervisor = Supervisor(
                specs, probe=probe, reporter=journal, policy=policy, launch=spare.launch if standby else launch
            )
            own = settings.model_copy(update={"redis_url": SecretStr(broker.url)})
            watch = None if hung_s is None else HangWatch(supervisor, own, url, folder, journal, hung_s)
            beside: list[Callable[[], Coroutine[Any, Any, None]]] = [] if watch is None else [watch.run]
            if standby:
                beside.append(partial(spare.run, supervisor.up))
            async with _supervised(supervisor, journal, beside):
                yield System(url, str(program.server), broker.url, journal, supervisor, spare, watch)


@contextlib.asynccontextmanager
async def _supervised(
    supervisor: Supervisor, journal: Journal, beside: Sequence[Callable[[], Coroutine[Any, Any, None]]]
) -> AsyncIterator[None]:
    async def run() -> None:
        try:
            await supervisor.run()
        except StartFailed as error:
            journal.say(str(error))

    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(run())
            try:
                await _until_up(supervisor, running)
                if not supervisor.up.is_set():
                    states = ", ".join(f"{one.spec.name} {one.state}" for one in supervisor.services)
                    raise StartFailed("\n".join((*journal.lines, f"the system did not start: {states}")))
                watching = [group.create_task(run()) for run in beside]
                yield
                for one in watching:
                    one.cancel()
            finally:  # before the group ends: it would cancel the supervisor, which would then kill its processes
                supervisor.stop()
                await asyncio.wait((running,))
    except ExceptionGroup as errors:  # raise what the body raised, without the group
        raise errors.exceptions[0] from None


async def _until_up(supervisor: Supervisor, running: asyncio.Task[None]) -> None:
    """Return when everything is ready, when a process has died, or when the start hangs."""

    def decided() -> bool:
        return supervisor.up.is_set() or running.done() or any(service.deaths for service in supervisor.services)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANG_S):
            while not decided():
                await asyncio.wait((running,), timeout=LOOK_S)
