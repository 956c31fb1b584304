"""The metrics server of a process, its build information, event-loop lag and GPU load."""

import asyncio
import http.client
import json
import platform
import re
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pynvml  # type: ignore[import-untyped]
import pytest
from prometheus_client import REGISTRY, enable_created_metrics

from shared.distribution import version
from shared.observability import metrics, process_stats
from shared.observability.gpu import GpuLoad
from shared.observability.process_stats import ProcessStats, serve_metrics, set_build_info
from shared.settings import BadSettings, Settings
from tests.support.free_ports import free_ports
from tests.support.waiting import HANG_S, until

GPU = GpuLoad("1", "Card", 0.37, 30, 80, 5, 250.5, 61.0)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[int]:
    port = free_ports(1)
    server = serve_metrics(Settings(metrics_port=port, metrics_host=host), "llm")
    assert server is not None
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Port of a metrics server that several tests share, because stopping one takes half a second."""
    enable_created_metrics()  # type: ignore[no-untyped-call]
    with served() as its_port:
        yield its_port


def scrape(port: int, accept: str = "text/plain") -> tuple[str, str]:
    """Fetch the metrics: content type and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


# -- the server ------------------------------------------------------------------------------------


def test_metrics_have_no_created_series(port: int) -> None:
    metrics.turns_total.labels("completed").inc()
    kind, text = scrape(port)
    assert kind.startswith("text/plain")
    assert 'parley_turns_total{outcome="completed"}' in text
    assert "_created" not in text
    kind, text = scrape(port, OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    assert "_created" not in text
    assert text.endswith("# EOF\n")


def test_exemplars_are_only_in_the_openmetrics_format(port: int) -> None:
    metrics.turn_latency.labels("exemplary").observe(0.42, {"trace_id": "abc123"})
    assert 'trace_id="abc123"' in scrape(port, OPENMETRICS)[1]
    assert "abc123" not in scrape(port)[1]


def test_port_0_starts_no_server() -> None:
    threads = threading.active_count()
    assert serve_metrics(Settings(metrics_port=0), "llm") is None
    assert threading.active_count() == threads


def test_metrics_are_local_by_default(port: int) -> None:
    with pytest.raises(OSError, match=r"refused|unreachable|No route"):
        socket.create_connection((other_address(), port), timeout=2).close()
    with served("0.0.0.0") as everywhere:
        socket.create_connection((other_address(), everywhere), timeout=2).close()


def other_address() -> str:
    """An address of this machine other than 127.0.0.1."""
    return "127.0.0.2" if sys.platform == "linux" else socket.gethostbyname(socket.gethostname())


def test_a_taken_port_names_the_setting_and_the_stage() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BadSettings, match=rf"PARLEY_METRICS_PORT={taken.getsockname()[1]}: .* metrics of asr .*in use"),
    ):
        serve_metrics(Settings(metrics_port=taken.getsockname()[1]), "asr")


@pytest.mark.parametrize("host", ["192.0.2.1", "..", "no such host", "x" * 300])
def test_an_address_of_another_machine_names_the_setting(host: str) -> None:
    with pytest.raises(BadSettings, match=re.escape(f"PARLEY_METRICS_HOST={host!r}: ")):
        serve_metrics(Settings(metrics_port=free_ports(1), metrics_host=host), "asr")


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n\r\n", b"\x16\x03\x01" + bytes(range(256)), b"GET /metr", b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n"],
    ids=["nothing", "empty", "tls", "cut off", "huge"],
)
def test_a_bad_client_does_not_block_others(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as odd:
        odd.sendall(sent)
        assert "parley_turns_total" in scrape(port)[1]


# -- build information -----------------------------------------------------------------------------


def test_the_build_is_one_series_that_a_later_one_replaces() -> None:
    set_build_info("llm", "eliza")
    set_build_info("llm", "transformers")
    (sample,) = next(iter(metrics.build_info.collect())).samples
    assert (sample.labels["stage"], sample.labels["engine"], sample.value) == ("llm", "transformers", 1)
    assert sample.labels["python"] == platform.python_version()
    assert sample.labels["version"] == version()


# -- the event loop --------------------------------------------------------------------------------


@asynccontextmanager
async def watching(own: ProcessStats) -> AsyncIterator[None]:
    task = asyncio.create_task(own.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def observed(stage: str, most_s: float = float("inf")) -> float:
    """Number of wake-ups that were at most `most_s` late."""
    bound = "+Inf" if most_s == float("inf") else str(most_s)
    labels = {"stage": stage, "le": bound}
    return REGISTRY.get_sample_value("parley_event_loop_lag_seconds_bucket", labels) or 0.0


async def test_a_blocking_callback_is_measured() -> None:
    own = ProcessStats("blocked")
    assert own.loop_lag_ms == 0.0
    async with watching(own):
        await until(lambda: observed("blocked") >= 1)
        time.sleep(0.7)  # noqa: ASYNC251 - the lag to be measured
        await until(lambda: own.loop_lag_ms >= 250)
    assert observed("blocked") - observed("blocked", 0.25) >= 1


def test_lag_is_forgotten_after_five_seconds() -> None:
    own = ProcessStats("forgetful")
    now = time.monotonic()
    own._lags.extend([(now - 6, 9.0), (now - 4, 0.02), (now - 1, 0.01)])
    assert own.loop_lag_ms == 20.0


# -- the GPUs --------------------------------------------------------------------------------------


EXPECTED = {
    "utilization_ratio": 0.37,
    "memory_used_bytes": 30,
    "memory_total_bytes": 80,
    "process_memory_bytes": 5,
    "power_watts": 250.5,
    "temperature_celsius": 61,
}


def gauge_value(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"parley_gpu_{name}", {"gpu": "1"})


class Card:
    """A fake GPU on which torch holds memory, with its driver's answers; other queries fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = 5
        self.power_mw: int | None = 250_500
        self.hangs = False
        self.released = threading.Event()
        self.readers: list[threading.Thread] = []
        device = SimpleNamespace(uuid="aaaa")
        cuda = SimpleNamespace(
            is_initialized=lambda: True,
            device_count=lambda: 1,
            memory_reserved=lambda index: self.held,
            get_device_properties=lambda index: device,
        )
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetIndex": lambda card: 1,
            "nvmlDeviceGetName": lambda card: "Card",
            "nvmlDeviceGetUtilizationRates": self._utilization,
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(used=30, total=80),
            "nvmlDeviceGetPowerUsage": self._power,
            "nvmlDeviceGetTemperature": lambda card, sensor: 61,
            "nvmlDeviceGetComputeRunningProcesses": lambda card: [],
            "nvmlDeviceIsMigDeviceHandle": lambda card: 0,
            "nvmlEventSetCreate": self._refuse,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, answer)

    def _utilization(self, card: str) -> Any:
        self.readers.append(threading.current_thread())
        if self.hangs:
            self.released.wait(HANG_S)
        return SimpleNamespace(gpu=37)

    def _power(self, card: str) -> int:
        return self._refuse() if self.power_mw is None else self.power_mw

    def _refuse(self) -> Any:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


async def test_gauges_are_set_and_removed_with_the_gpus(card: Card) -> None:
    own = ProcessStats("llm", gpus_every_s=0.01)
    async with watching(own):
        await until(lambda: own.gpus == (GPU,))
        assert {name: gauge_value(name) for name in EXPECTED} == EXPECTED
        own._lags.append((time.monotonic(), 9.0314159))
        assert json.loads(json.dumps(own.load())) == {"loop_lag_ms": 9031.4, "gpus": [asdict(GPU)]}
        card.held = 0
        await until(lambda: own.gpus == ())
    assert [gauge_value(name) for name in EXPECTED] == [None] * len(EXPECTED)


async def test_unreported_values_have_no_series(card: Card) -> None:
    own = ProcessStats("llm", gpus_every_s=0.01)
    async with watching(own):
        await until(lambda: own.gpus == (GPU,))
        card.power_mw = None
        await until(lambda: own.gpus == (replace(GPU, power_w=None),))
        assert (gauge_value("power_watts"), gauge_value("temperature_celsius")) == (None, 61)
        card.held = 0
        await until(lambda: own.gpus == ())


async def test_a_hanging_driver_blocks_nothing_and_is_not_called_again(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_stats, "READ_TIMEOUT_S", 0.05)
    own = ProcessStats("hanging", gpus_every_s=0.01)
    async with watching(own):
        await until(lambda: own.gpus == (GPU,))
        card.hangs = True
        await until(lambda: own.gpus == ())
        assert gauge_value("utilization_ratio") is None
        asked, woken = len(card.readers), observed("hanging")
        await until(lambda: observed("hanging") >= woken + 2)
        assert len(card.readers) == asked
        assert all(thread.daemon for thread in card.readers)  # otherwise they would block the end of the process
        card.hangs = False
        card.released.set()
        await until(lambda: own.gpus == (GPU,))
        card.held = 0
        await until(lambda: own.gpus == ())


@pytest.mark.parametrize("timeout_s", [0.02, 2.0], ids=["after the timeout", "before it"])
async def test_a_reading_that_ends_after_the_task_is_dropped(
    card: Card, monkeypatch: pytest.MonkeyPatch, timeout_s: float
) -> None:
    monkeypatch.setattr(process_stats, "READ_TIMEOUT_S", timeout_s)
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: wrong.append(context))
    card.hangs = True
    own = ProcessStats("llm")
    async with watching(own):
        await until(lambda: bool(card.readers))
        await asyncio.sleep(0.05)
    card.released.set()
    await asyncio.to_thread(card.readers[0].join, HANG_S)
    await asyncio.sleep(0)
    assert (own.gpus, wrong) == ((), [])


async def test_a_process_without_torch_has_no_gpu_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    own = ProcessStats("vad", gpus_every_s=0.01)
    async with watching(own):
        await until(lambda: observed("vad") >= 1)
    assert own.gpus == ()
    assert [gauge_value(name) for name in EXPECTED] == [None] * len(EXPECTED)
