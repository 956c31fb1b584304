"""`parley doctor`: checks this machine and a running system, and says what is wrong and how to fix it."""

import asyncio
import importlib
import json
import sys
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import httpx

from deploy.local import broker
from deploy.local.address import PortTaken, claim_port, edge_url
from deploy.local.observe import metrics_targets
from deploy.local.waits import read_waits
from deploy.models.used import model_status, size_text, used_models
from deploy.monitor.client import authorization
from shared.bus.connection import BrokerRefused
from shared.bus.versions import eviction_problem
from shared.distribution import how_to_install
from shared.engines.devices import open_device
from shared.engines.models import how_to_bring
from shared.engines.registry import UnknownEngine, create_engine
from shared.settings import STAGES, Settings

OLDEST_PYTHON = (3, 11)
LIBRARIES = (
    "hiredis", "httptools", "msgpack", "nltk", "numpy", "orjson", "pocketsphinx", "soundfile",
    "samplerate", "soxr", "uvloop", "webrtcvad",
)  # fmt: skip
"""Libraries with native code or data. They fail first on a broken installation or an unsupported processor."""
REINSTALL = "rm -rf .venv && make run"
HTTP_TIMEOUT_S = 3.0
MARKS = {"ok": "✓", "wrong": "✗", "skipped": "–"}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    outcome: Literal["ok", "wrong", "skipped"]
    detail: str
    fix: str = ""
    """What to do; empty if there is nothing to do."""


def run_doctor(settings: Settings, environ: Mapping[str, str], *, url: str | None, as_json: bool) -> int:
    """Run and print all checks. Returns 1 if one failed, otherwise 0. If `url` is given, a Parley has to answer there."""
    return asyncio.run(_run(settings, environ, url=url, as_json=as_json))


async def _run(settings: Settings, environ: Mapping[str, str], *, url: str | None, as_json: bool) -> int:
    checks = []
    async for check in _checks(settings, environ, url):
        checks.append(check)
        if not as_json:
            _print(check)
    wrong = sum(check.outcome == "wrong" for check in checks)
    if as_json:
        print(json.dumps({"ok": not wrong, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(f"\n{wrong} of {len(checks)} checks failed" if wrong else f"\nno problem found in {len(checks)} checks")
    return 1 if wrong else 0


def _print(check: Check) -> None:
    print(f"{MARKS[check.outcome]} {check.name}: {check.detail}", flush=True)
    if check.fix:
        print(f"    fix: {check.fix}", flush=True)


async def _checks(settings: Settings, environ: Mapping[str, str], url: str | None) -> AsyncIterator[Check]:
    yield check_python(sys.version_info[:3])
    yield await check_broker(settings, environ)
    yield check_libraries(LIBRARIES)
    for stage in STAGES:
        yield check_engine(stage, settings)
    if settings.traces != "off":
        yield check_traces(settings)
    for check in check_models(settings):
        yield check
    base = (url or edge_url(settings)).rstrip("/")
    verify = url is not None or settings.tls_cert is None  # a certificate is for a public name, not for loopback
    async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False, verify=verify) as client:
        health = await _get_health(client, base)
        if url is None:
            yield check_port(settings, running=health is not None)
        async for check in check_system(client, base, health, expected=url is not None):
            yield check
        if health is not None and url is None:
            yield await check_metrics(client, settings)


def check_python(version: tuple[int, ...]) -> Check:
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Check("python", "wrong", f"{text} is too old", "install Python 3.11 or newer, then: " + REINSTALL)
    return Check("python", "ok", text)


async def check_broker(settings: Settings, environ: Mapping[str, str]) -> Check:
    """Check the broker that the settings name, or find the one that `parley up` would start."""
    try:
        if settings.redis_url is not None:
            server = (await broker.server_of(settings)).require()
            answering = f"{server} answers at {broker.shown_url(settings)}"
            if problem := eviction_problem(server.eviction_policy):
                fix = (
                    "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in the broker's configuration file"
                )
                return Check("broker", "wrong", f"{answering}; its {problem}", fix)
            return Check("broker", "ok", answering)
        rejected: list[str] = []
        program = await broker.find_program(environ.get("PATH"), rejected.append)
        detail = "; ".join((f"{program.server} ({program.path})", *(f"cannot use {one}" for one in rejected)))
        return Check("broker", "ok", detail)
    except (broker.BrokerError, BrokerRefused) as error:
        fix = "start or upgrade the broker of PARLEY_REDIS_URL; or unset the variable, and `parley up` starts a broker"
        return Check("broker", "wrong", str(error), fix if settings.redis_url is not None else REINSTALL)


def check_libraries(names: tuple[str, ...]) -> Check:
    broken = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            try:
                importlib.import_module(name)
            except (ImportError, OSError) as error:  # OSError: a shared library failed to load
                broken.append(f"{name} ({error})")
    if broken:
        return Check("libraries", "wrong", ", ".join(broken), REINSTALL)
    return Check("libraries", "ok", f"{len(names)} of {len(names)} load")


def check_engine(stage: str, settings: Settings) -> Check:
    name: str = getattr(settings, f"{stage}_engine")
    check = f"{stage} engine"
    builtin: Mapping[str, str] = importlib.import_module(f"services.{stage}.engine").ENGINES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            create_engine(stage, name, builtin, settings)
    except UnknownEngine as error:
        default = next(iter(builtin))
        fix = REINSTALL if name in builtin else f"unset PARLEY_{stage.upper()}_ENGINE: the default is {default}"
        return Check(check, "wrong", str(error), fix)
    except Exception as error:  # noqa: BLE001  a third-party engine can raise anything
        detail = f"{name}: {type(error).__name__}: {error}"
        return Check(check, "wrong", detail, f"read the documentation of {name}, or choose another engine")
    return Check(check, "ok", name)


def check_traces(settings: Settings) -> Check:
    try:
        importlib.import_module("shared.observability.otel").make_processor(settings).shutdown()
    except ImportError as error:
        return Check("traces", "wrong", str(error), f"{how_to_install('otel')}, or PARLEY_TRACES=off")
    return Check("traces", "ok", settings.traces)


def check_models(settings: Settings) -> Iterator[Check]:
    """Check that the models of the engines are complete, and that their device exists."""
    try:
        used = [model for model in used_models(settings) if model.name]
    except UnknownEngine:
        return  # `check_engine` reports it
    for model in used:
        found, name = model_status(model, models_dir=settings.models_dir), f"{model.stage} model"
        if found.state == "complete":
            yield Check(name, "ok", f"{model.name}, {size_text(found.size)}")
        else:
            missing = f", without {', '.join(found.missing)}" if found.state == "incomplete" else ""
            yield Check(name, "wrong", f"{model.name} is {found.state}{missing}", how_to_bring(model.name))
    if not all(model.stored for model in used):  # models of the catalogue's folder run without torch
        try:
            yield Check("device", "ok", open_device(settings).name)
        except UnknownEngine as error:
            yield Check("device", "wrong", str(error), "set PARLEY_DEVICE=auto, which uses a GPU if there is one")


def check_port(settings: Settings, *, running: bool) -> Check:
    if running:
        return Check("port", "ok", f"{settings.port}: a Parley answers there")
    try:
        claim_port(settings.host, settings.port)
    except PortTaken as error:
        return Check("port", "wrong", str(error), "PORT=8001 make run, or PARLEY_PORT=8001")
    return Check("port", "ok", f"{settings.port} is free")


async def check_system(
    client: httpx.AsyncClient, base: str, health: Mapping[str, Any] | None, *, expected: bool
) -> AsyncIterator[Check]:
    """Check each stage of a running system, its page and its monitor. `expected`: it is an error if none is running."""
    if health is None:
        if expected:
            yield Check("system", "wrong", f"no Parley answers at {base}", "start it with `make run`, or correct --url")
        else:
            yield Check("system", "skipped", f"no Parley runs at {base}; start it with `make run`")
        return
    for stage in STAGES:
        yield _check_stage(stage, health["stages"].get(stage))
    try:
        page = await client.get(f"{base}/")
        good = page.status_code == 200 and "html" in page.headers.get("content-type", "")
        seen = f"{base}/ answers {page.status_code}, {page.headers.get('content-type', 'no content type')}"
    except httpx.HTTPError as error:
        good, seen = False, f"{base}/: {error}"
    yield Check("page", "ok", seen) if good else Check("page", "wrong", seen, "read the log of the edge")
    yield await _check_monitor(client, base)


async def _check_monitor(client: httpx.AsyncClient, base: str) -> Check:
    page = f"{base}/monitor"
    try:
        status = (await client.get(f"{page}/data", headers=authorization())).status_code
        seen = f"{page}/data answers {status}"
    except httpx.HTTPError as error:
        status, seen = 0, f"{page}: {error}"
    if status in (401, 404):
        detail = "it is off, or open only to its machine and to operators (PARLEY_KEY); PARLEY_MONITOR=on opens it"
        return Check("monitor", "skipped", detail)
    return (
        Check("monitor", "ok", page) if status == 200 else Check("monitor", "wrong", seen, "read the log of the edge")
    )


async def check_metrics(client: httpx.AsyncClient, settings: Settings) -> Check:
    """Check that the services on this machine serve metrics at the addresses that `parley observe` scrapes."""
    targets = metrics_targets(settings)
    silent = [name for name, target in targets.items() if not await _serves_metrics(client, target)]
    first = next(iter(targets.values()))
    if not silent:
        return Check("metrics", "ok", f"{', '.join(targets)} serve metrics at {first} and the ports after it")
    detail = f"no metrics of {', '.join(silent)} at {first} and the ports after it"
    fix = "start Parley with `make run`, or with PARLEY_METRICS_PORT, and run this with the same PARLEY_METRICS_PORT"
    if settings.metrics_port == 0 and len(silent) == len(targets):
        return Check("metrics", "skipped", detail, fix)
    return Check("metrics", "wrong", detail, fix)


async def _serves_metrics(client: httpx.AsyncClient, target: str) -> bool:
    try:
        return "parley_build_info" in (await client.get(f"http://{target}/metrics")).text
    except httpx.HTTPError:
        return False


def _check_stage(stage: str, facts: object) -> Check:
    if not isinstance(facts, dict) or not facts.get("ready"):
        fix = f"start a worker (`parley {stage}`), or read its log: a worker is ready after its engine has loaded"
        if isinstance(facts, dict) and (wait := read_waits({stage: facts}).get(stage)):
            start = f"start that server, or correct PARLEY_{stage.upper()}_URL"
            return Check(f"{stage} stage", "wrong", f"the worker waits for {wait}", start)
        return Check(f"{stage} stage", "wrong", "no worker is ready", fix)
    detail = f"{facts['ready']} ready, engine {facts.get('engine', '?')}, queue age {facts.get('queue_age_ms', '?')} ms"
    return Check(f"{stage} stage", "ok", detail)


async def _get_health(client: httpx.AsyncClient, base: str) -> Mapping[str, Any] | None:
    """The body of /health, with status 200 or 503; None if no Parley answers."""
    try:
        body = (await client.get(f"{base}/health")).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("stages"), dict) else None
