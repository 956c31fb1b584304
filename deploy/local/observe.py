"""`parley observe`: runs Prometheus and Alertmanager beside `parley up`, with Parley's configuration, in a private folder."""

import asyncio
import contextlib
import fcntl
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.local.address import PortTaken, base_url, claim_port
from deploy.local.console import PlainConsole
from deploy.local.foreground import handle_signals, run_supervisor, stop_or_kill
from deploy.local.supervised import ServiceSpec
from deploy.local.supervisor import StartFailed, Supervisor
from deploy.local.up import SERVICES
from shared.settings import Settings

HOST = "127.0.0.1"
USUAL_METRICS_PORT = 9464
"""The first of the metrics ports that `make run` uses by default."""
ENVIRONMENT = "local"
"""Name of this machine's system in the dashboards."""
SCRAPE_S = 5
KEEP = "15d"
PROBE_TIMEOUT_S = 2.0
ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards/built/alerts.yaml"
ROUTES = ROOT / "deploy/alertmanager/alertmanager.yml"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that may be installed."""

    name: str
    programs: tuple[str, ...]
    """File names of the program: upstream's and Debian's."""
    package: str
    """Debian package."""
    usual_port: int


PROMETHEUS = Tool("prometheus", ("prometheus",), "prometheus", 9090)
ALERTMANAGER = Tool("alertmanager", ("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager", 9093)


class CannotObserve(RuntimeError):
    """No program is installed, or the folder cannot be used. The message says what to do."""


def run_observe(
    settings: Settings, environ: Mapping[str, str], prometheus_port: int | None, alertmanager_port: int | None
) -> int:
    """Run until a signal. Returns the exit code: 0 after a signal, 1 without programs, folder or port, 2 if a program
    rejects its configuration."""
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
    """Find the installed programs on `path` (syntax of PATH; None: PATH of the environment). Prints what is missing.

    Raises:
        CannotObserve: neither is installed.
    """
    found = {}
    for tool in (PROMETHEUS, ALERTMANAGER):
        if program := next(filter(None, (shutil.which(name, path=path) for name in tool.programs)), None):
            found[tool] = program
        else:
            say(f"{tool.name} is not installed; on Debian: sudo apt-get install {tool.package}")
    if ALERTMANAGER in found and not ROUTES.is_file():
        say(f"{ROUTES} is missing: Alertmanager is not started")
        del found[ALERTMANAGER]
    if not found:
        raise CannotObserve("nothing to run: install Prometheus or Alertmanager")
    return found


def take_port(tool: Tool, asked: int | None) -> int:
    """The requested port; without one the usual port, or a free port if that is in use: Debian runs both programs as services.

    Raises:
        PortTaken: the requested port is in use.
    """
    try:
        return claim_port(HOST, asked or tool.usual_port)
    except PortTaken:
        if asked is not None:
            raise PortTaken(f"port {asked} on {HOST} is in use: choose another with --{tool.name}-port") from None
        return claim_port(HOST, 0)


@contextlib.contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """Make the folder, mode 0700, and lock it: only one `parley observe` may use it. Measurements stay in it.

    Raises:
        CannotObserve: another `parley observe` uses it, or it cannot be written.
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
            raise CannotObserve(f"another `parley observe` uses {folder}: stop it, or set PARLEY_DATA_DIR") from None
        yield folder


def metrics_targets(settings: Settings) -> dict[str, str]:
    """Addresses of the metrics of `parley up`: host:port by service."""
    first = settings.metrics_port or USUAL_METRICS_PORT
    return {
        name: base_url(settings.metrics_host, port).removeprefix("http://") for port, name in enumerate(SERVICES, first)
    }


def write_configuration(
    folder: Path, settings: Settings, ports: Mapping[Tool, int], say: Callable[[str], None]
) -> None:
    """Write prometheus.yml and alertmanager.yml into the folder. Prints it if the alert rules are missing.

    Raises:
        CannotObserve: a file cannot be written.
    """
    rules = RULES if RULES.is_file() else None
    if rules is None:
        say(f"{RULES} is missing: there will be no alerts")
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
    """The configuration of Prometheus: it scrapes the targets, evaluates the rules, and sends alerts to Alertmanager."""
    interval = f"{SCRAPE_S}s"
    job = {
        "job_name": "parley",
        # Some metrics have their own label `stage`: the edge reports about stages. It must win over the target's label.
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
    """The command line. Its flags work with Prometheus 2.42 and 3, Alertmanager 0.25 and 0.28."""
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
        "--cluster.listen-address=",  # no cluster: by default it listens on every address for other Alertmanagers
    )


async def _observe(
    specs: Sequence[ServiceSpec], ports: Mapping[Tool, int], targets: Mapping[str, str], console: PlainConsole
) -> int:
    urls = {tool.name: base_url(HOST, port) for tool, port in ports.items()}
    async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
        supervisor = Supervisor(specs, probe=ReadyProbe(client, urls), reporter=console)

        handle_signals(lambda: stop_or_kill(supervisor, console))

        async def announce() -> None:
            await supervisor.up.wait()
            for line in where_to_look(urls, targets):
                console.say(line)

        await run_supervisor(supervisor, announce())
    console.say("stopped")
    return 0


def where_to_look(urls: Mapping[str, str], targets: Mapping[str, str]) -> list[str]:
    """The lines that are printed when everything is up."""
    lines = []
    if url := urls.get(PROMETHEUS.name):
        lines.append(f"Prometheus: {url}/graph; alerts: {url}/alerts; targets: {url}/targets")
        first = next(iter(targets.values()))
        lines.append(
            f"It scrapes {', '.join(targets)} at {first} and the ports after it. `make run` has to use the same."
        )
    if url := urls.get(ALERTMANAGER.name):
        lines.append(f"Alertmanager: {url}/#/alerts")
    return lines


class ReadyProbe:
    """Asks each program whether it is ready."""

    def __init__(self, client: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = urls

    async def __call__(self) -> frozenset[str]:
        ready = set()
        for name, url in self._urls.items():
            with contextlib.suppress(httpx.HTTPError):  # the program is not up yet
                if (await self._client.get(f"{url}/-/ready")).is_success:
                    ready.add(name)
        return frozenset(ready)
