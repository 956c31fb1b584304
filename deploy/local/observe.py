"""`parley observe`: Prometheus and Alertmanager beside `parley up`, with our configuration, in a folder of their own."""

import asyncio
import contextlib
import fcntl
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.local.address import PortTaken, base_url, claim_port
from deploy.local.console import PlainConsole
from deploy.local.supervisor import ServiceSpec, StartFailed, Supervisor
from deploy.local.up import SERVICES
from shared.settings import Settings

HOST = "127.0.0.1"
USUAL_METRICS_PORT = 9464
"""Where `make run` puts the first of the metrics ports."""
ENVIRONMENT = "local"
"""What the dashboards call this machine's own system."""
SCRAPE_S = 5
KEEP = "15d"
PROBE_TIMEOUT_S = 2.0
ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards/built/alerts.yaml"
ROUTES = ROOT / "deploy/alertmanager/alertmanager.yml"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that may be here."""

    name: str
    programs: tuple[str, ...]
    """The names that it goes by: upstream's and Debian's."""
    package: str
    """Debian's."""
    usual_port: int


PROMETHEUS = Tool("prometheus", ("prometheus",), "prometheus", 9090)
ALERTMANAGER = Tool("alertmanager", ("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager", 9093)


class CannotObserve(RuntimeError):
    """There is nothing to run, or no place to run it in; the message says what to do."""


def run_observe(
    settings: Settings, environ: Mapping[str, str], prometheus_port: int | None, alertmanager_port: int | None
) -> int:
    """Run until a signal ends it. Returns the exit code: 0 after a signal, 1 for what the machine lacks, 2 for settings."""
    console = PlainConsole()
    try:
        found = find_tools(environ.get("PATH"), console.say)
        asked = {PROMETHEUS: prometheus_port, ALERTMANAGER: alertmanager_port}
        ports = {tool: take_port(tool, asked[tool]) for tool in found}
        with private_folder(settings.data_dir / "observe") as folder:
            write_configuration(folder, settings, ports, console.say)
            specs = [
                ServiceSpec(tool.name, tool_argv(tool, path, folder, ports[tool]), environ)
                for tool, path in found.items()
            ]
            return asyncio.run(_observe(specs, ports, metrics_targets(settings), console))
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 2
    except (CannotObserve, PortTaken) as error:
        print(error, file=sys.stderr)
        return 1


def find_tools(path: str | None, say: Callable[[str], None]) -> dict[Tool, str]:
    """Where the programs are, on `path` (PATH's syntax, None: the environment's); `say` is told of what is missing.

    Raises:
        CannotObserve: nothing is there.
    """
    found = {}
    for tool in (PROMETHEUS, ALERTMANAGER):
        if program := next(filter(None, (shutil.which(name, path=path) for name in tool.programs)), None):
            found[tool] = program
        else:
            say(f"{tool.name} is not installed; on Debian: sudo apt-get install {tool.package}")
    if ALERTMANAGER in found and not ROUTES.is_file():
        say(f"{ROUTES} is missing: no Alertmanager")
        del found[ALERTMANAGER]
    if not found:
        raise CannotObserve("nothing to run")
    return found


def take_port(tool: Tool, asked: int | None) -> int:
    """The port that was asked for, else the usual one, else a free one: Debian runs both as services of the machine.

    Raises:
        PortTaken: the one that was asked for is.
    """
    try:
        return claim_port(HOST, asked or tool.usual_port)
    except PortTaken:
        if asked is not None:
            raise PortTaken(f"port {asked} on {HOST} cannot be had: --{tool.name}-port takes another") from None
        return claim_port(HOST, 0)


@contextlib.contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """The folder, open to us alone and to one `parley observe` at a time. What was measured stays there.

    Raises:
        CannotObserve: another one uses it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise CannotObserve(f"PARLEY_DATA_DIR: {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotObserve(f"another `parley observe` runs in {folder}") from None
        yield folder


def metrics_targets(settings: Settings) -> dict[str, str]:
    """Where the services of `parley up` offer their metrics: host:port by name."""
    first = settings.metrics_port or USUAL_METRICS_PORT
    return {
        name: base_url(settings.metrics_host, port).removeprefix("http://") for port, name in enumerate(SERVICES, first)
    }


def write_configuration(
    folder: Path, settings: Settings, ports: Mapping[Tool, int], say: Callable[[str], None]
) -> None:
    """What the programs read, as prometheus.yml and alertmanager.yml in the folder.

    Raises:
        CannotObserve: they cannot be written.
    """
    rules = RULES if RULES.is_file() else None
    if rules is None:
        say(f"{RULES} is missing: no alerts")
    configuration = prometheus_configuration(metrics_targets(settings), rules, ports.get(ALERTMANAGER))
    try:
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(configuration, indent=2))
        if ALERTMANAGER in ports:
            shutil.copyfile(ROUTES, folder / "alertmanager.yml")
    except OSError as error:
        raise CannotObserve(f"PARLEY_DATA_DIR: {error.filename}: {error.strerror}") from None


def prometheus_configuration(
    targets: Mapping[str, str], rules: Path | None, alertmanager_port: int | None
) -> dict[str, Any]:
    """Scrape the targets, watch the rules, tell the Alertmanager."""
    interval = f"{SCRAPE_S}s"
    job = {
        "job_name": "parley",
        # Several metrics have a label `stage` of their own, which is about another process than the one that tells.
        "honor_labels": True,
        "static_configs": [
            {"targets": [target], "labels": {"stage": name, "environment": ENVIRONMENT}}
            for name, target in targets.items()
        ],
    }
    configuration: dict[str, Any] = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "scrape_configs": [job],
    }
    if rules is not None:
        configuration["rule_files"] = [str(rules)]
    if alertmanager_port is not None:
        to = {"static_configs": [{"targets": [f"{HOST}:{alertmanager_port}"]}]}
        configuration["alerting"] = {"alertmanagers": [to]}
    return configuration


def tool_argv(tool: Tool, program: str, folder: Path, port: int) -> tuple[str, ...]:
    """How to start it: flags that Prometheus 2.42 and 3, Alertmanager 0.25 and 0.28 all know."""
    common = (program, f"--web.listen-address={HOST}:{port}", "--log.level=warn")
    if tool is PROMETHEUS:
        return (
            *common,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--storage.tsdb.retention.time={KEEP}",
        )
    return (
        *common,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        "--cluster.listen-address=",  # alone: else it listens for others on every address
    )


async def _observe(
    specs: Sequence[ServiceSpec], ports: Mapping[Tool, int], targets: Mapping[str, str], console: PlainConsole
) -> int:
    urls = {tool.name: base_url(HOST, port) for tool, port in ports.items()}
    async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
        supervisor = Supervisor(specs, probe=ReadyProbe(client, urls), reporter=console)

        def on_signal() -> None:
            console.say("killing what is left" if supervisor.stopping else "stopping (once more: kill)")
            supervisor.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, on_signal)

        async def announce() -> None:
            await supervisor.up.wait()
            for line in where_to_look(urls, targets):
                console.say(line)

        failure: StartFailed | None = None
        async with asyncio.TaskGroup() as group:
            announcing = group.create_task(announce())
            try:
                await supervisor.run()
            except StartFailed as error:  # a group would wrap it
                failure = error
            announcing.cancel()
    if failure is not None:
        raise failure
    console.say("stopped")
    return 0


def where_to_look(urls: Mapping[str, str], targets: Mapping[str, str]) -> list[str]:
    """What a person is told once everything is up."""
    lines = []
    if url := urls.get(PROMETHEUS.name):
        lines.append(f"Prometheus: {url}/graph; alerts: {url}/alerts; what it asks: {url}/targets")
        first = next(iter(targets.values()))
        lines.append(f"it asks {', '.join(targets)} from {first} on: there `make run` offers its metrics")
    if url := urls.get(ALERTMANAGER.name):
        lines.append(f"Alertmanager: {url}/#/alerts")
    return lines


class ReadyProbe:
    """Which of the programs say that they are ready."""

    def __init__(self, client: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = urls

    async def __call__(self) -> frozenset[str]:
        ready = set()
        for name, url in self._urls.items():
            with contextlib.suppress(httpx.HTTPError):  # not up yet
                if (await self._client.get(f"{url}/-/ready")).is_success:
                    ready.add(name)
        return frozenset(ready)
