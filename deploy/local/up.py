"""`parley up`: the whole system on one machine, from the first check of the port to the last process that ends."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.local import broker
from deploy.local.address import PortTaken, base_url, claim_metrics_ports, claim_port
from deploy.local.console import LiveConsole, PlainConsole, open_console
from deploy.local.supervisor import Policy, ServiceSpec, StartFailed, Supervisor
from shared.settings import STAGES, Settings

BROKER_TIER, STAGE_TIER, EDGE_TIER = 0, 1, 2
SERVICES = (*STAGES, "edge")
"""In the order in which their metrics ports follow one another."""
HEALTH_TIMEOUT_S = 2.0
BEYOND_DRAIN_S = 2.0
"""How much longer than its own deadline a stopping service may take before it is killed."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker that the services are to use."""

    url: str
    spec: ServiceSpec | None = None
    """Ours to run."""
    folder: Path | None = None


def up(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run until a signal ends it. Returns the exit code: 0 after a signal, 1 for what the machine lacks, 2 for settings."""
    console = open_console()
    try:
        return asyncio.run(_up(settings, environ, console))
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 2
    except (PortTaken, broker.BrokerError) as error:
        print(error, file=sys.stderr)
        return 1


async def _up(settings: Settings, environ: Mapping[str, str], console: PlainConsole | LiveConsole) -> int:
    began_s = time.monotonic()
    supervisor: Supervisor | None = None
    starting = asyncio.current_task()

    def on_signal() -> None:
        if supervisor is None:
            if starting is not None:
                starting.cancel()
        else:
            console.say("killing what is left" if supervisor.stopping else "stopping (once more: kill)")
            supervisor.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)

    try:
        port = claim_port(settings.host, settings.port)
        if settings.metrics_port:
            claim_metrics_ports(settings.metrics_host, settings.metrics_port, SERVICES, port)
        async with _broker(settings, environ, console) as its_broker:
            base = base_url(settings.host, port)
            specs = service_specs(settings, environ, its_broker, port, text_logs=isinstance(console, LiveConsole))
            async with httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False) as client:
                probe = HealthProbe(client, base, its_broker.folder)
                policy = Policy(grace_s=settings.drain_ms / 1000 + BEYOND_DRAIN_S)
                supervisor = Supervisor(specs, probe=probe, reporter=console, policy=policy)
                await _run(supervisor, console, base, began_s, monitored=settings.monitor != "off")
    except asyncio.CancelledError:
        if supervisor is not None:
            raise
    console.say("stopped")
    return 0


async def _run(
    supervisor: Supervisor, console: PlainConsole | LiveConsole, base: str, began_s: float, *, monitored: bool
) -> None:
    async def announce() -> None:
        await supervisor.up.wait()
        console.say(f"ready after {time.monotonic() - began_s:.1f} s; open {base}/")
        if monitored:
            console.say(f"watch it at {base}/monitor")

    failure: StartFailed | None = None
    async with asyncio.TaskGroup() as group:
        extras = [group.create_task(announce()), group.create_task(console.show(supervisor.services))]
        try:
            await supervisor.run()
        except StartFailed as error:  # a group would wrap it
            failure = error
        for extra in extras:
            extra.cancel()
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def _broker(
    settings: Settings, environ: Mapping[str, str], console: PlainConsole | LiveConsole
) -> AsyncIterator[Broker]:
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        server = (await broker.url_version(url)).require()
        console.say(f"broker: {server} at {broker.without_password(url)}")
        yield Broker(url)
        return
    program = await broker.find_program(environ.get("PATH"), lambda reason: console.say(f"refused {reason}"))
    with broker.private_folder() as folder:
        console.say(f"broker: {program.server} ({program.path}) on a private socket")
        argv = broker.broker_argv(program, folder)
        spec = ServiceSpec("broker", argv, environ, tier=BROKER_TIER, quiet=True)
        yield Broker(broker.socket_url(folder), spec, folder)


def service_specs(
    settings: Settings, environ: Mapping[str, str], its_broker: Broker, port: int, *, text_logs: bool
) -> list[ServiceSpec]:
    """What is to run: the broker if it is ours, the four stages, the edge."""
    env = {
        **environ,
        "PARLEY_REDIS_URL": its_broker.url,
        "PARLEY_PORT": str(port),
        "PARLEY_PROFILE": settings.profile,
        "PYTHONUNBUFFERED": "1",
    }
    if text_logs and settings.log_format == "auto":
        env["PARLEY_LOG_FORMAT"] = "text"  # a service writes into our pipe and cannot know that a person reads it
    specs = [] if its_broker.spec is None else [its_broker.spec]
    for position, name in enumerate(SERVICES):
        own = {}
        if settings.metrics_port:  # one port cannot serve five processes
            own["PARLEY_METRICS_PORT"] = str(settings.metrics_port + position)
        if device := getattr(settings, f"{name}_device", ""):
            own["PARLEY_DEVICE"] = device
        # -P: a folder `shared` or `deploy` where the command was called must not be taken for ours.
        argv = (sys.executable, "-P", "-m", "deploy.cli", name)
        tier = EDGE_TIER if name == "edge" else STAGE_TIER
        # Not needed by the tier above: it is the edge that tells whether a stage is ready.
        specs.append(ServiceSpec(name, argv, {**env, **own}, tier=tier, needed=False))
    return specs


class HealthProbe:
    """Which services are ready, by the edge's own account and the broker's answer."""

    def __init__(self, client: httpx.AsyncClient, base: str, folder: Path | None) -> None:
        self._client = client
        self._url = f"{base}/health"
        self._folder = folder

    async def __call__(self) -> frozenset[str]:
        ready = set()
        if self._folder is not None and await broker.answers(self._folder):
            ready.add("broker")
        try:
            stages = (await self._client.get(self._url)).json()["stages"]
            ready.update(name for name, facts in stages.items() if facts["ready"])
            ready.add("edge")
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            pass  # not up yet, or not ours
        return frozenset(ready)
