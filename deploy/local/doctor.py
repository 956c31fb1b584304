"""`parley doctor`: looks at this machine and at a running system, and says what is wrong and how to mend it."""

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
from deploy.local.address import PortTaken, base_url, claim_port
from deploy.local.observe import metrics_targets
from deploy.models.catalog import size_text, standing, used_models
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
"""Those with native code or data of their own: what a broken installation or a foreign processor shows in."""
REINSTALL = "rm -rf .venv && make run"
HTTP_TIMEOUT_S = 3.0
MARKS = {"ok": "✓", "wrong": "✗", "skipped": "–"}


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what was seen."""

    name: str
    outcome: Literal["ok", "wrong", "skipped"]
    detail: str
    mend: str = ""


def run_doctor(settings: Settings, environ: Mapping[str, str], *, url: str | None, as_json: bool) -> int:
    """Print every check. Returns 0 where nothing is wrong, else 1. A `url` that was given must answer."""
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
        print(f"\n{wrong} of {len(checks)} checks found something wrong" if wrong else "\nall is well")
    return 1 if wrong else 0


def _print(check: Check) -> None:
    print(f"{MARKS[check.outcome]} {check.name}: {check.detail}", flush=True)
    if check.mend:
        print(f"    mend: {check.mend}", flush=True)


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
    base = (url or base_url(settings.host, settings.port)).rstrip("/")
    async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False) as client:
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
    """The one that the settings name, or the one that `parley up` would start."""
    try:
        if settings.redis_url is not None:
            url = settings.redis_url.get_secret_value()
            server = (await broker.url_version(url)).require()
            return Check("broker", "ok", f"{server} answers at {broker.without_password(url)}")
        refused: list[str] = []
        program = await broker.find_program(environ.get("PATH"), refused.append)
        return Check(
            "broker", "ok", "; ".join((f"{program.server}, {program.path}", *(f"not {one}" for one in refused)))
        )
    except broker.BrokerError as error:
        mend = "upgrade or start the broker that PARLEY_REDIS_URL names, or unset it and `parley up` starts one"
        return Check("broker", "wrong", str(error), mend if settings.redis_url is not None else REINSTALL)


def check_libraries(names: tuple[str, ...]) -> Check:
    broken = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            try:
                importlib.import_module(name)
            except (ImportError, OSError) as error:  # OSError: a shared library that cannot be loaded
                broken.append(f"{name} ({error})")
    if broken:
        return Check("libraries", "wrong", ", ".join(broken), REINSTALL)
    return Check("libraries", "ok", f"{len(names)} can be imported")


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
        mend = REINSTALL if name in builtin else f"unset PARLEY_{stage.upper()}_ENGINE: the default is {default}"
        return Check(check, "wrong", str(error), mend)
    except Exception as error:  # noqa: BLE001  an engine from outside can raise anything, and the person has to read it
        return Check(check, "wrong", f"{name}: {type(error).__name__}: {error}", f"see what {name} needs")
    return Check(check, "ok", name)


def check_traces(settings: Settings) -> Check:
    """Whether what sends them is installed."""
    try:
        importlib.import_module("shared.observability.otel").make_processor(settings).shutdown()
    except ImportError as error:
        return Check("traces", "wrong", str(error), f"{how_to_install('otel')}, or PARLEY_TRACES=off")
    return Check("traces", "ok", settings.traces)


def check_models(settings: Settings) -> Iterator[Check]:
    """Whether the models that the engines load are here, and a device to run them."""
    try:
        used = [model for model in used_models(settings) if model.name]
    except UnknownEngine:
        return  # the engine's own check says it
    for model in used:
        found, name = standing(model), f"{model.stage} model"
        if found.state == "complete":
            yield Check(name, "ok", f"{model.name}, {size_text(found.size)}")
        else:
            missing = f", without {', '.join(found.missing)}" if found.state == "incomplete" else ""
            yield Check(name, "wrong", f"{model.name} is {found.state}{missing}", how_to_bring(model.name))
    if used:
        try:
            yield Check("device", "ok", open_device(settings).name)
        except UnknownEngine as error:
            yield Check("device", "wrong", str(error), "PARLEY_DEVICE=auto takes what there is")


def check_port(settings: Settings, *, running: bool) -> Check:
    if running:
        return Check("port", "ok", f"{settings.port}: Parley answers there")
    try:
        claim_port(settings.host, settings.port)
    except PortTaken as error:
        return Check("port", "wrong", str(error), "PORT=8001 make run, or PARLEY_PORT=8001")
    return Check("port", "ok", f"{settings.port} is free")


async def check_system(
    client: httpx.AsyncClient, base: str, health: Mapping[str, Any] | None, *, expected: bool
) -> AsyncIterator[Check]:
    """Each stage of a running system, and its page."""
    if health is None:
        if expected:
            yield Check("system", "wrong", f"no Parley answers at {base}", "make run, or name another with --url")
        else:
            yield Check("system", "skipped", f"nothing runs at {base}; start it with `make run`")
        return
    for stage in STAGES:
        yield _check_stage(stage, health["stages"].get(stage))
    try:
        page = await client.get(f"{base}/")
        good = page.status_code == 200 and "html" in page.headers.get("content-type", "")
        seen = f"{base}/ answers {page.status_code}, {page.headers.get('content-type', 'no content type')}"
    except httpx.HTTPError as error:
        good, seen = False, f"{base}/: {error}"
    yield Check("page", "ok", seen) if good else Check("page", "wrong", seen, "look at what the edge logs")
    yield await _check_monitor(client, base)


async def _check_monitor(client: httpx.AsyncClient, base: str) -> Check:
    page = f"{base}/monitor"
    try:
        status = (await client.get(f"{page}/data")).status_code
    except httpx.HTTPError as error:
        return Check("monitor", "wrong", f"{page}: {error}", "look at what the edge logs")
    if status == 404:
        return Check(
            "monitor", "skipped", "switched off, or open only to the edge's machine; PARLEY_MONITOR=on opens it"
        )
    if status != 200:
        return Check("monitor", "wrong", f"{page}/data answers {status}", "look at what the edge logs")
    return Check("monitor", "ok", page)


async def check_metrics(client: httpx.AsyncClient, settings: Settings) -> Check:
    """Whether the processes on this machine offer metrics where `parley observe` asks for them."""
    targets = metrics_targets(settings)
    silent = [name for name, target in targets.items() if not await _offers_metrics(client, target)]
    first = next(iter(targets.values()))
    if not silent:
        return Check("metrics", "ok", f"{', '.join(targets)} offer theirs, from {first} on")
    detail = f"nothing of {', '.join(silent)}, from {first} on"
    mend = "start it with `make run`, or with PARLEY_METRICS_PORT set, and call this with the same"
    if settings.metrics_port == 0 and len(silent) == len(targets):
        return Check("metrics", "skipped", detail, mend)
    return Check("metrics", "wrong", detail, mend)


async def _offers_metrics(client: httpx.AsyncClient, target: str) -> bool:
    try:
        return "parley_build_info" in (await client.get(f"http://{target}/metrics")).text
    except httpx.HTTPError:
        return False


def _check_stage(stage: str, facts: object) -> Check:
    if not isinstance(facts, dict) or not facts.get("ready"):
        mend = (
            f"start one (`parley {stage}`), or look at what it logs: a worker is ready only when its engine has loaded"
        )
        return Check(f"{stage} stage", "wrong", "no worker is ready", mend)
    detail = f"{facts['ready']} ready, engine {facts.get('engine', '?')}, queue age {facts.get('queue_age_ms', '?')} ms"
    return Check(f"{stage} stage", "ok", detail)


async def _get_health(client: httpx.AsyncClient, base: str) -> Mapping[str, Any] | None:
    """What /health says, 200 or 503; None where no Parley answers."""
    try:
        body = (await client.get(f"{base}/health")).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("stages"), dict) else None
