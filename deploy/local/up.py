"""`parley up`: checks ports and broker, then runs the whole system on this machine until a signal stops it."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from deploy.local import broker
from deploy.local.address import PortTaken, claim_metrics_ports, edge_url, network_urls, open_listener
from deploy.local.console import LiveConsole, PlainConsole, open_console
from deploy.local.control import Command, Say, answer_commands
from deploy.local.endpoints import mention_endpoints
from deploy.local.foreground import handle_signals, run_supervisor, stop_or_kill
from deploy.local.hang import HangWatch
from deploy.local.prepare import prepare
from deploy.local.roll import Roll
from deploy.local.standby import Standby, service_argv
from deploy.local.supervised import Policy, ServiceSpec
from deploy.local.supervisor import StartFailed, Supervisor
from deploy.local.waits import read_waits, report_waits
from shared.bus.connection import BrokerRefused
from shared.bus.versions import eviction_problem
from shared.settings import STAGES, Settings

BROKER_TIER, STAGE_TIER, EDGE_TIER = 0, 1, 2
SERVICES = (*STAGES, "edge")
"""In the order of their metrics ports."""
HEALTH_TIMEOUT_S = 2.0
BEYOND_DRAIN_S = 2.0
"""Time that a stopping service has after its own deadline (PARLEY_DRAIN_MS) before it is killed."""


@dataclass(frozen=True, slots=True)
class Broker:
    url: str
    spec: ServiceSpec | None = None
    """How to run it; None if PARLEY_REDIS_URL names a running broker."""
    folder: Path | None = None
    """Private folder of a broker that runs here."""


def up(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run until a signal. Returns the exit code: 0 after a signal, 1 without a broker or a port, 2 for wrong settings."""
    console = open_console()
    try:
        return asyncio.run(_up(prepare(settings, console.say), environ, console))
    except KeyboardInterrupt:  # during a download; the next start continues it
        console.say("stopped")
        return 0
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 2
    except BrokerRefused as error:
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
            stack.close()  # from now on connections are refused, not queued
            stop_or_kill(supervisor, console)

    handle_signals(on_signal)
    stack = contextlib.ExitStack()
    try:
        # Held here, so that an edge and its successor accept from the same queue, and a restart refuses nobody.
        listener = stack.enter_context(open_listener(settings.host, settings.port))
        port = int(listener.getsockname()[1])
        if settings.metrics_port:
            claim_metrics_ports(settings.metrics_host, settings.metrics_port, SERVICES, port)
        async with _open_broker(settings, environ, console) as chosen:
            base = edge_url(settings, port)
            text_logs = isinstance(console, LiveConsole)
            specs = service_specs(settings, environ, chosen, port, text_logs=text_logs, listener=listener)
            # A certificate is for a public name, and the probe stays on this machine.
            verify = settings.tls_cert is None
            async with httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False, verify=verify) as client:
                probe = HealthProbe(client, base, chosen.folder)
                policy = Policy(grace_s=settings.drain_ms / 1000 + BEYOND_DRAIN_S)
                standby = Standby(specs[-1].env)
                supervisor = Supervisor(specs, probe=probe, reporter=console, policy=policy, launch=standby.launch)
                own = settings.model_copy(update={"redis_url": SecretStr(chosen.url)})
                hangs = HangWatch(supervisor, own, base, chosen.folder, console)
                announcing = _announce(supervisor, console, settings, port, began_s)
                await run_supervisor(
                    supervisor,
                    announcing,
                    console.show(supervisor.services, probe.waits),
                    report_waits(probe.waits, console),
                    hangs.run(),
                    standby.run(supervisor.up),
                    answer_commands(port, _commands(supervisor, standby, settings, chosen.url, base), console),
                    mention_endpoints(supervisor.up, settings, _own_ports(settings, port), console.say),
                )
    except asyncio.CancelledError:
        if supervisor is not None:
            raise
    finally:
        stack.close()
    console.say("stopped")
    return 0


def _commands(
    supervisor: Supervisor, standby: Standby, settings: Settings, broker_url: str, base: str
) -> dict[str, Command]:
    async def tell_broker(say: Say) -> str:
        return broker_url

    return {"broker": tell_broker, "roll": Roll(supervisor, standby, settings, broker_url, base)}


async def _announce(
    supervisor: Supervisor, console: PlainConsole | LiveConsole, settings: Settings, port: int, began_s: float
) -> None:
    """Wait until all services are ready, and print the URLs, and who else can reach them."""
    await supervisor.up.wait()
    base, others = edge_url(settings, port), network_urls(settings.host, port)
    console.say(f"ready after {time.monotonic() - began_s:.1f} s; open {base}/")
    if settings.monitor == "on" or (settings.monitor == "auto" and not settings.open):
        console.say(f"watch it at {base}/monitor")
    if others:
        who = "everybody who reaches it" if settings.open else "everybody with a key"
        console.say(
            f"open to the network at {', '.join(f'{url}/' for url in others)}: {who} can talk to it. Browsers give the "
            "microphone only to https. See docs/network.md."
        )


def _own_ports(settings: Settings, port: int) -> frozenset[int]:
    metrics_ports = range(settings.metrics_port, settings.metrics_port + len(SERVICES)) if settings.metrics_port else ()
    return frozenset({port, *metrics_ports})


@contextlib.asynccontextmanager
async def _open_broker(
    settings: Settings, environ: Mapping[str, str], console: PlainConsole | LiveConsole
) -> AsyncIterator[Broker]:
    """Check the broker that the settings name, or choose a program and a folder for one of our own.

    Raises:
        BrokerError: there is no broker that is new enough.
        BrokerRefused: the URL or a file of TLS cannot be used.
    """
    if settings.redis_url is not None:
        server = (await broker.server_of(settings)).require()
        console.say(f"broker: {server} at {broker.shown_url(settings)}")
        if problem := eviction_problem(server.eviction_policy):
            console.say(f"warning: {problem}")
        yield Broker(settings.redis_url.get_secret_value())
        return
    program = await broker.find_program(environ.get("PATH"), lambda reason: console.say(f"cannot use {reason}"))
    with broker.private_folder() as folder:
        console.say(f"broker: {program.server} ({program.path}) on a private socket")
        argv = broker.broker_argv(program, folder)
        spec = ServiceSpec("broker", argv, environ, tier=BROKER_TIER, quiet=True)
        yield Broker(broker.socket_url(folder), spec, folder)


def service_specs(
    settings: Settings,
    environ: Mapping[str, str],
    chosen: Broker,
    port: int,
    *,
    text_logs: bool,
    listener: socket.socket | None = None,
) -> list[ServiceSpec]:
    """The processes to run: a broker of our own, the four stages, the edge. `listener`: what the edge is to accept from."""
    env = {
        **environ,
        "PARLEY_REDIS_URL": chosen.url,
        "PARLEY_PORT": str(port),
        "PARLEY_PROFILE": settings.profile,
        "PYTHONUNBUFFERED": "1",
        # The stages share the cores. A library's thread that waits by spinning takes them from the other stages.
        "OMP_WAIT_POLICY": environ.get("OMP_WAIT_POLICY", "passive"),
    }
    if text_logs and settings.log_format == "auto":
        env["PARLEY_LOG_FORMAT"] = "text"  # a service writes to a pipe, and would choose JSON
    specs = [] if chosen.spec is None else [chosen.spec]
    for position, name in enumerate(SERVICES):
        own = {}
        if settings.metrics_port:  # each process needs its own port
            own["PARLEY_METRICS_PORT"] = str(settings.metrics_port + position)
            own["PARLEY_METRICS_SHARED"] = "true"
        if device := getattr(settings, f"{name}_device", ""):
            own["PARLEY_DEVICE"] = device
        tier = EDGE_TIER if name == "edge" else STAGE_TIER
        fds: tuple[int, ...] = ()
        if name == "edge" and listener is not None:
            fds, own["PARLEY_LISTEN_FD"] = (listener.fileno(),), str(listener.fileno())
        # `needed=False`: the edge reports whether a stage is ready, so it must not wait for them.
        specs.append(ServiceSpec(name, service_argv(name), {**env, **own}, tier=tier, needed=False, fds=fds))
    return specs


class HealthProbe:
    """Asks the edge's /health which services are ready, and pings a broker of our own."""

    def __init__(self, client: httpx.AsyncClient, base: str, folder: Path | None) -> None:
        self._client = client
        self._url = f"{base}/health"
        self._folder = folder
        self.waits: dict[str, str] = {}
        """What each stage that is not ready waits for, in words, at the latest answer."""

    async def __call__(self) -> frozenset[str]:
        ready = set()
        if self._folder is not None and await broker.answers(self._folder):
            ready.add("broker")
        try:
            stages = (await self._client.get(self._url)).json()["stages"]
            ready.update(name for name, facts in stages.items() if facts["ready"])
            waits = read_waits(stages)
            ready.add("edge")
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            pass  # the edge is not up yet, or another program answers
        else:
            self.waits.clear()
            self.waits.update(waits)
        return frozenset(ready)
