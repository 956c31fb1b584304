"""A dead stage rings: from its metrics through Prometheus and Alertmanager to a webhook, and again when it is back."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from dashboards import alerts
from deploy.local.address import base_url, claim_port
from shared.settings import STAGES
from tests.conftest import need
from tests.support.system import SCRIPTED, System, running_system
from tests.support.waiting import HANG_S

ROUTES = Path(__file__).parents[2] / "deploy/alertmanager/alertmanager.yml"
HOST = "127.0.0.1"
HOLD = "1s"
"""How long a cause lasts before its alert fires, in this test."""


class Webhook:
    """The receiver of the webhook. `received` holds the alerts of every call, each with its status."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request on a connection. Alertmanager may end before it sends one."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        length = next(line for line in head.splitlines() if line.startswith("content-length:"))
        body = json.loads(await reader.readexactly(int(length.partition(":")[2])))
        self.received += [{**alert, "path": head.split()[1]} for alert in body["alerts"]]
        self._news.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def until(self, status: str, **labels: str) -> dict[str, Any]:
        """The first alert with this status (firing or resolved) and these labels."""
        async with asyncio.timeout(HANG_S):
            while True:
                for alert in self.received:
                    if alert["status"] == status and labels.items() <= alert["labels"].items():
                        return alert
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def webhook(port: int) -> AsyncIterator[Webhook]:
    called = Webhook()
    server = await asyncio.start_server(called.answer, HOST, port)
    try:
        yield called
    finally:
        server.close()


@asynccontextmanager
async def program(argv: Sequence[str], ready_url: str) -> AsyncIterator[None]:
    """Runs beside the test from when it says that it is ready."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(HANG_S), httpx.AsyncClient(trust_env=False) as client:
            while not await _answers(client, ready_url):
                assert process.returncode is None, f"{argv[0]} ended with exit code {process.returncode}"
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


def alertmanager(folder: Path, port: int, webhook_port: int) -> tuple[list[str], str]:
    """Our routes, without their patience, to our webhook."""
    text = ROUTES.read_text().replace("127.0.0.1:9095", f"{HOST}:{webhook_port}")
    config = yaml.safe_load(text)
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    argv = [
        need("alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/alertmanager",
        f"--web.listen-address={HOST}:{port}",
        "--cluster.listen-address=",
    ]
    return argv, f"{base_url(HOST, port)}/-/ready"


def prometheus(folder: Path, port: int, alertmanager_port: int, metrics_port: int) -> tuple[list[str], str]:
    """Our rules, without their patience."""
    (folder / "alerts.yaml").write_text(alerts.build(hold=HOLD)["alerts.yaml"])
    targets = [
        {"targets": [f"{HOST}:{metrics_port + place}"], "labels": {"stage": stage}}
        for place, stage in enumerate((*STAGES, "edge"))
    ]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{HOST}:{alertmanager_port}"]}]}]},
        "scrape_configs": [{"job_name": alerts.JOB, "honor_labels": True, "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = [
        need("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address={HOST}:{port}",
    ]
    return argv, f"{base_url(HOST, port)}/-/ready"


def ports_in_a_row(count: int) -> int:
    """The first of `count` free ports."""
    while True:
        first = claim_port(HOST, 0)
        try:
            for port in range(first + 1, first + count):
                claim_port(HOST, port)
        except (RuntimeError, OverflowError):
            continue
        return first


async def successor(system: System, stage: str, killed: int) -> int:
    """The process that takes the place of the one that was killed."""
    async with asyncio.timeout(HANG_S):
        while system.pids.get(stage, killed) == killed:
            await asyncio.sleep(0.01)
    return system.pids[stage]


async def until_quiet(prometheus_port: int) -> None:
    """Everything is measured, and nothing is wrong."""
    async with (
        asyncio.timeout(HANG_S),
        httpx.AsyncClient(base_url=base_url(HOST, prometheus_port), trust_env=False) as client,
    ):
        while True:
            up = (await client.get("/api/v1/query", params={"query": f'sum(up{{job="{alerts.JOB}"}})'})).json()
            active = (await client.get("/api/v1/alerts")).json()["data"]["alerts"]
            if [one["value"][1] for one in up["data"]["result"]] == [str(len(STAGES) + 1)] and not active:
                return
            await asyncio.sleep(0.1)


async def test_a_stage_that_dies_calls_the_webhook_and_again_when_it_is_back(tmp_path: Path) -> None:
    metrics_port = ports_in_a_row(len(STAGES) + 1)
    prometheus_port, alertmanager_port, webhook_port = (claim_port(HOST, 0) for _ in range(3))
    watching = prometheus(tmp_path, prometheus_port, alertmanager_port, metrics_port)
    async with (
        running_system({**SCRIPTED, "PARLEY_METRICS_PORT": str(metrics_port)}) as system,
        webhook(webhook_port) as called,
        program(*alertmanager(tmp_path, alertmanager_port, webhook_port)),
        program(*watching),
    ):
        await until_quiet(prometheus_port)
        killed = system.pids["tts"]
        os.kill(killed, signal.SIGKILL)
        hanging = await successor(system, "tts", killed)
        os.kill(hanging, signal.SIGSTOP)  # it starts, and never says that it is ready
        try:
            received = await called.until("firing", alertname="NoReadyWorker")
        finally:
            os.kill(hanging, signal.SIGCONT)
        assert received["path"] == "/ticket"
        assert received["labels"]["stage"] == "tts"
        assert received["labels"]["severity"] == "ticket"
        assert received["annotations"] == {
            "summary": "No tts worker is ready",
            "description": "0 tts workers are ready. New sessions are refused, and turns wait.",
            "runbook_url": "docs/runbooks/NoReadyWorker.md",
            "dashboard": "parley-stages",
        }
        await called.until("resolved", alertname="NoReadyWorker", stage="tts")
        # Prometheus finds its targets only after some seconds: until then it measures nothing, and may say so.
        of_the_system = [one["labels"] for one in called.received if one["labels"]["alertname"] != "ExporterAbsent"]
        assert of_the_system
        assert all(labels == received["labels"] for labels in of_the_system)


async def test_a_known_cause_holds_back_tickets_and_never_a_page(tmp_path: Path) -> None:
    port, webhook_port = claim_port(HOST, 0), claim_port(HOST, 0)
    causes = [
        {"alertname": "NoReadyWorker", "severity": "ticket", "stage": "tts"},
        {"alertname": "TurnSuccessBudget", "severity": "page", "slo": "turn-success", "window": "1h"},
    ]
    held_back = [
        {"alertname": "QueueTooOld", "severity": "ticket", "stage": "tts"},
        {"alertname": "SessionsRefused", "severity": "ticket", "reason": "no_worker"},
        {"alertname": "TurnSuccessBudget", "severity": "ticket", "slo": "turn-success", "window": "1d"},
        {"alertname": "BargeInBudget", "severity": "ticket", "slo": "barge-in", "window": "1d"},
    ]
    others = [
        {"alertname": "QueueTooOld", "severity": "ticket", "stage": "asr"},
        {"alertname": "BargeInBudget", "severity": "page", "slo": "barge-in", "window": "1h"},
        {"alertname": "ClockSkew", "severity": "ticket", "stage": "asr"},
    ]
    async with (
        webhook(webhook_port) as called,
        program(*alertmanager(tmp_path, port, webhook_port)),
        httpx.AsyncClient(base_url=base_url(HOST, port), trust_env=False) as client,
    ):
        for raised, expected in ((causes, causes), ([*held_back, *others], others)):
            (await client.post("/api/v2/alerts", json=[{"labels": labels} for labels in raised])).raise_for_status()
            for labels in expected:
                assert (await called.until("firing", **labels))["path"] == f"/{labels['severity']}"
        shown = (await client.get("/api/v2/alerts")).json()
    inhibited = [one["labels"] for one in shown if one["status"]["inhibitedBy"]]
    assert sorted(inhibited, key=str) == sorted((dict(sorted(labels.items())) for labels in held_back), key=str)
    assert not [one for one in called.received if one["labels"] in held_back]
