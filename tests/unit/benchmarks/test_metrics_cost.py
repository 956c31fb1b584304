"""What the cost of metrics is measured with: instruments that do nothing, a scraper of real ports, pairs of runs."""

import asyncio
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import start_http_server
from rich.console import Console

from benchmarks.figures import Run
from benchmarks.metrics_cost import ALL, SERVICES, Scraper, cost, free_ports, print_cost, without_metrics
from benchmarks.pipeline import RunFailed
from tests.support.waiting import HANG_S

EVERY_INSTRUMENT = """
from prometheus_client import Counter, Gauge, Histogram, Info, Summary, generate_latest
for labels in ((), ("stage",)):
    end = "_labelled" if labels else ""
    for kind in (Counter, Gauge, Histogram, Summary, Info):
        metric = kind(f"of_{kind.__name__.lower()}{end}", "text", labels)
        child = metric.labels("vad") if labels else metric
        for name, given in (("inc", 3), ("set", 3), ("observe", 3), ("info", {"a": "3"}), ("set_function", lambda: 3)):
            if hasattr(child, name):
                getattr(child, name)(given)
print(generate_latest().decode())
"""


def values(env: dict[str, str]) -> list[str]:
    done = subprocess.run(
        (sys.executable, "-P", "-c", EVERY_INSTRUMENT), env=os.environ | env, capture_output=True, text=True, check=True
    )
    samples = [line.split() for line in done.stdout.splitlines() if line.startswith("of_") and "_created" not in line]
    return [value for _, value in samples]


def test_instruments_do_nothing_where_the_folder_is_on_the_path() -> None:
    assert "3.0" in values({})
    assert set(values(without_metrics({}))) == {"0.0", "1.0"}  # an Info is always 1


def test_what_was_on_the_path_stays_there() -> None:
    assert without_metrics({"PYTHONPATH": "/more"})["PYTHONPATH"].endswith(f"no_metrics{os.pathsep}/more")
    assert Path(without_metrics({})["PYTHONPATH"]).name == "no_metrics"


async def scraped(scraper: Scraper, until: int) -> None:
    async with asyncio.timeout(HANG_S), scraper.running():
        while min((scraper.scrapes[name] for name in SERVICES), default=0) < until:
            await asyncio.sleep(0.01)


async def test_every_service_is_scraped_again_and_again() -> None:
    first = free_ports(len(SERVICES))
    servers = [start_http_server(first + offset, addr="127.0.0.1") for offset in range(len(SERVICES))]
    try:
        scraper = Scraper(first, every_s=0.01)
        await scraped(scraper, until=3)
    finally:
        with ThreadPoolExecutor() as pool:  # each waits half a second
            list(pool.map(lambda one: one[0].shutdown(), servers))
        for server, thread in servers:
            server.server_close()
            thread.join()
    scraper.check()
    assert all(scraper.size_bytes[name] > 100 for name in SERVICES)


async def test_a_service_that_is_never_up_is_no_result() -> None:
    scraper = Scraper(free_ports(len(SERVICES)), every_s=0.01)
    async with scraper.running():
        await asyncio.sleep(0.1)
    with pytest.raises(RunFailed, match="no metrics from vad, asr, llm, tts, edge"):
        scraper.check()


async def test_what_the_run_raises_comes_through_the_scraper() -> None:
    with pytest.raises(RunFailed, match="the callers gave up"):
        async with Scraper(1).running():
            raise RunFailed("the callers gave up")


def a_run(repeat: int, vad_s: float) -> Run:
    return Run(50, repeat, window_s=20.0, cpu_s={"vad": vad_s, "edge": 4.0, "callers": 2.0})


def test_the_cost_is_the_ratio_of_neighbours() -> None:
    off = [a_run(0, 4.0), a_run(1, 8.0), a_run(2, 4.0)]
    on = [a_run(0, 4.4), a_run(1, 8.8), a_run(2, 4.8)]
    found = cost(off, on)
    assert found["vad"].ratio == pytest.approx(1.1)
    assert (found["vad"].low, found["vad"].high) == pytest.approx((1.1, 1.2))
    assert found[ALL].before == pytest.approx(100 * 8 / 20 / 50)
    assert found["callers"].ratio == found["edge"].ratio == 1
    told = io.StringIO()
    print_cost(50, found, Console(file=told, width=140))
    assert "1.10–1.20 3 pairs" in told.getvalue()
    assert "(callers)" in told.getvalue()
