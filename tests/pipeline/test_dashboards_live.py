"""Every panel has something to show: a system under load, a real Prometheus that reads it, and each panel's expression."""

import asyncio
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from dashboards import boards
from deploy.local.address import PortTaken, base_url, claim_metrics_ports, claim_port
from deploy.local.observe import metrics_targets, prometheus_configuration
from deploy.local.up import SERVICES
from shared.settings import Settings
from tests.conftest import need, system
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S

Speech = Callable[[str, int], bytes]

HOST = "127.0.0.1"
WINDOW = "1m"
"""In place of Grafana's: longer than all of the test."""
LATER_S = 3.0

MAY_BE_EMPTY = {
    r"parley_gpu_": "there is no GPU",
    r"DCGM_FI_": "there is no DCGM exporter",
    r"sum by \(stage\) .*parley_(reclaims|leases_lost|dead_letters|bad_frames)_total": "no worker died or failed",
    r"sum by \(reason\) .*parley_(sessions_refused|dropped)_total": "nobody was refused; what is dropped is by chance",
    r"sum by \(protocol\) .*parley_playback_underruns_total": "nobody heard a gap",
    r"parley_endpoint_requests_total": "the scripted engines ask no endpoint",
    r"parley_llm_prompt_tokens": "the scripted model reports no tokens",
    r"sum by \(reason\) .*parley_turn_reasons_total": "no turn failed, and no reply was cut",
    r"parley_batch_size": "the scripted engines have no batches",
    r"sum by \(stage\) .*parley_broker_reconnects_total": "the broker did not go away",
}
"""Expressions that have no data while nothing goes wrong, and why; with a total that shows 0 beside them, or no device."""


def test_what_may_be_empty_is_asked_for() -> None:
    asked = [expression for _, expression in expressions()]
    assert not [pattern for pattern in MAY_BE_EMPTY if not any(re.search(pattern, one) for one in asked)]


def test_every_panel_shows_something(speech_pcm: Speech, tmp_path: Path) -> None:
    words = speech_pcm("hello there how are you", 16_000)
    port = free_metrics_port()
    ports = {"PARLEY_METRICS_PORT": str(port)}
    # A reply that takes its time, so that work is in hand when it turns out to be for nothing.
    settings = {**SCRIPTED, **ports, "PARLEY_SCRIPTED_LLM_MS": "300", "PARLEY_SCRIPTED_TTS_SECONDS": "2"}
    with (
        system(settings) as parley,
        prometheus(tmp_path, port) as url,
        httpx.Client(base_url=url, trust_env=False) as db,
    ):
        end_s = time.monotonic() + HANG_S
        while len(targets_up(db)) < len(SERVICES):
            assert time.monotonic() < end_s, f"only {targets_up(db)} are read"
            time.sleep(0.1)
        asyncio.run(talk(parley, words))
        asked = dict(expressions())
        last_s = time.monotonic() + HANG_S
        while empty := {
            where: asked[where] for where in asked if not has_data(db, asked[where]) and not excused(asked[where])
        }:
            if time.monotonic() > last_s:
                raise AssertionError("no data:\n" + "\n".join(f"{where}: {text}" for where, text in empty.items()))
            asked = empty
            time.sleep(1)
        for query in variables():
            assert values(db, query), query


async def talk(parley: System, words: bytes) -> None:
    """Two people who do the same, the second one some scrapes later: what is counted once has no rate yet."""

    async def interrupts(after_s: float) -> None:
        """Somebody hesitates for so long that a reply is begun, is answered, and interrupts the answer."""
        await asyncio.sleep(after_s)
        async with calling(parley.url) as caller:
            await caller.speak(words, silence_s=0.35)
            await caller.speak(words, silence_s=0.65)
            await caller.until("audio")
            await caller.send("played", ms=100)
            await caller.speak(words, silence_s=0.65)
            await caller.until("reply_done", turn=2, status="completed")

    async with asyncio.TaskGroup() as callers:
        callers.create_task(interrupts(0))
        callers.create_task(interrupts(LATER_S))


@contextlib.contextmanager
def prometheus(folder: Path, metrics_port: int) -> Iterator[str]:
    """A Prometheus as `parley observe` sets it up, but that it reads every second, and says in which environment."""
    targets = metrics_targets(Settings(metrics_host=HOST, metrics_port=metrics_port))
    configuration = prometheus_configuration(targets, None, None)
    configuration["global"]["scrape_interval"] = "1s"
    for static in configuration["scrape_configs"][0]["static_configs"]:
        static["labels"]["environment"] = "test"
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(configuration))
    port = claim_port(HOST, 0)
    argv = (
        need("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=error",
    )
    process = subprocess.Popen(argv)
    try:
        yield base_url(HOST, port)
    finally:
        process.terminate()
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_metrics_port() -> int:
    """The first of `count` free ports in a row."""
    while True:
        first = claim_port(HOST, 0)
        with contextlib.suppress(PortTaken):
            claim_metrics_ports(HOST, first, SERVICES, 0)
            return first


def targets_up(db: httpx.Client) -> list[str]:
    with contextlib.suppress(httpx.TransportError):
        if db.get("/-/ready").is_success:  # until then Prometheus answers with 503
            return [series["metric"]["stage"] for series in ask(db, "up == 1")]
    return []


def expressions() -> Iterator[tuple[str, str]]:
    """Where each stands, and the expression with values in place of the variables."""
    for text in boards.build().values():
        board = json.loads(text)
        for panel in [inner for row in board["panels"] for inner in [row, *row.get("panels", ())]]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$__rate_interval", WINDOW).replace("$__range", WINDOW)
                where = f"{board['uid']} {panel['id']}{target['refId']} {panel['title']}"
                yield where, expression.replace("$environment", "test").replace("$stage", ".*").replace("$engine", ".*")


def variables() -> set[str]:
    """The queries of the variables, with values in place of other variables."""
    boards_built = [json.loads(text) for text in boards.build().values()]
    listed = [variable for board in boards_built for variable in board["templating"]["list"]]
    queries = {variable["query"] for variable in listed if variable["type"] == "query"}
    return {re.sub(r"\$\w+", ".*", query) for query in queries}


def values(db: httpx.Client, query: str) -> list[str]:
    """What Grafana offers for `label_values(series, label)`."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found, query
    answer = db.get(f"/api/v1/label/{found[2]}/values", params={"match[]": found[1]}).raise_for_status()
    return list(answer.json()["data"])


def has_data(db: httpx.Client, expression: str) -> bool:
    """Numbers, not only the quotients of nothing."""
    return any(series["value"][1] != "NaN" for series in ask(db, expression))


def ask(db: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = db.get("/api/v1/query", params={"query": expression})
    assert answer.status_code == 200, f"{expression}: {answer.text}"
    return list(answer.json()["data"]["result"])


def excused(expression: str) -> bool:
    return any(re.search(pattern, expression) for pattern in MAY_BE_EMPTY)
