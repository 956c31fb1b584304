"""What the metrics cost of the pipeline's CPU: `parley bench metrics`, or `python -m benchmarks.metrics_cost`.

The pipeline with instruments that do nothing and no metrics port, in turn with the pipeline as it is, its metrics
offered and scraped every 5 s. Told is the CPU per session of either, and the ratio of neighbours.
"""

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson
from rich.console import Console

from benchmarks.compare import Change, paired
from benchmarks.figures import CALLERS, Run
from benchmarks.machine import HERE, circumstances, result_path
from benchmarks.pipeline import Options, RunFailed, measure
from benchmarks.report import new_table, open_console
from deploy.broker import BrokerError
from deploy.supervisor import StartFailed
from shared.settings import STAGES
from tests.support.system import SCRIPTED

NO_METRICS = HERE / "no_metrics"
SCRAPE_S = 5.0
SCRAPE_LIMIT_S = 2.0
SERVICES = (*STAGES, "edge")
"""In the order of their ports."""
ALL = "all"


def without_metrics(environ: Mapping[str, str]) -> dict[str, str]:
    """What makes the services' instruments do nothing; the callers are not touched by it."""
    paths = [str(NO_METRICS), *filter(None, [environ.get("PYTHONPATH")])]
    return {**SCRIPTED, "PYTHONPATH": os.pathsep.join(paths), "PARLEY_METRICS_PORT": "0"}


def free_ports(count: int) -> int:
    """The first of so many free ports in a row.

    Raises:
        RunFailed: there are none.
    """
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count <= 65536 and all(_is_free(first + offset) for offset in range(count)):
            return first
    raise RunFailed(f"no {count} free ports in a row for the metrics")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


class Scraper:
    """Asks all services for their metrics every few seconds, as a Prometheus would."""

    def __init__(self, first_port: int, every_s: float = SCRAPE_S) -> None:
        self._urls = {name: f"http://127.0.0.1:{first_port + at}/metrics" for at, name in enumerate(SERVICES)}
        self._every_s = every_s
        self.scrapes: Counter[str] = Counter()
        """Answers, by service."""
        self.size_bytes: dict[str, int] = {}
        """Of the last answer."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Scrape for the length of a `with`."""
        try:
            async with asyncio.TaskGroup() as group:
                scraping = group.create_task(self._run())
                try:
                    yield
                finally:
                    scraping.cancel()
        except ExceptionGroup as errors:  # what the body raised, as the body raised it
            raise errors.exceptions[0] from None

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=SCRAPE_LIMIT_S, trust_env=False) as client:
            while True:
                for name, url in self._urls.items():
                    with suppress(httpx.HTTPError):  # it may not be up yet, or no more
                        answer = await client.get(url)
                        answer.raise_for_status()
                        self.scrapes[name] += 1
                        self.size_bytes[name] = len(answer.content)
                await asyncio.sleep(self._every_s)

    def check(self) -> None:
        """Raises `RunFailed` where a service was never scraped: the figures would say that metrics cost nothing."""
        if silent := [name for name in SERVICES if not self.scrapes[name]]:
            raise RunFailed(f"no metrics from {', '.join(silent)}: what was measured is not the pipeline with metrics")


async def measure_pairs(options: Options, console: Console) -> tuple[list[Run], list[Run], Scraper]:
    """The runs without metrics, those with them, and the scraper of the last; which begins a pair alternates."""
    off, on = ([Run(options.sessions[0], repeat) for repeat in range(options.repeat)] for _ in range(2))
    last = Scraper(0)
    with console.status("") as status:
        for one, other in zip(off, on, strict=True):
            label = f"pair {one.repeat + 1} of {options.repeat}"

            async def plain(run: Run = one, label: str = label) -> None:
                env = without_metrics(os.environ)
                await measure(run, options, lambda phase: status.update(f"{label}, without, {phase}"), env)

            async def measured(run: Run = other, label: str = label) -> Scraper:
                port = free_ports(len(SERVICES))
                scraper = Scraper(port)
                env = {**SCRIPTED, "PARLEY_METRICS_PORT": str(port)}
                async with scraper.running():
                    await measure(run, options, lambda phase: status.update(f"{label}, with, {phase}"), env)
                scraper.check()
                return scraper

            if one.repeat % 2 == 0:
                await plain()
                last = await measured()
            else:
                last = await measured()
                await plain()
            totals = " and ".join(f"{_percent(run)[ALL]:.3f}" for run in (one, other))
            console.print(f"{label}: {totals} % of a core per session, without and with", markup=False)
    return off, on, last


def _percent(run: Run) -> dict[str, float]:
    """CPU per session of each process and of all but the callers."""
    return {ALL: sum(run.cpu_percent.values()) - run.cpu_percent[CALLERS]} | run.cpu_percent


def cost(off: list[Run], on: list[Run]) -> dict[str, Change]:
    """For each process and all together, from runs without metrics to their neighbours with them."""
    return {
        name: paired([_percent(run)[name] for run in off], [_percent(run)[name] for run in on])
        for name in _percent(off[0])
    }


def run_metrics_cost(options: Options) -> int:
    """Measure, show and write. Returns 0, or 1 where there is no result."""
    try:
        off, on, scraper = asyncio.run(measure_pairs(options, open_console(sys.stderr)))
    except (RunFailed, StartFailed, BrokerError) as error:
        print(f"no result: {error}", file=sys.stderr)
        return 1
    changes = cost(off, on)
    result: dict[str, Any] = circumstances() | {
        "sessions": options.sessions[0],
        "seconds": options.seconds,
        "scrape_s": SCRAPE_S,
        "scrape_bytes": scraper.size_bytes,
        "cost": changes,
        "off": [run.figures() for run in off],
        "on": [run.figures() for run in on],
    }
    path = result_path(options.out, "metrics-cost", result)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    console = open_console(sys.stdout)
    print_cost(result["sessions"], changes, console)
    sizes = ", ".join(f"{name} {size / 1024:.0f}" for name, size in scraper.size_bytes.items())
    console.print(f"a scrape, every {SCRAPE_S:g} s, in KiB: {sizes}\n\n{path}", markup=False)
    return 0


def print_cost(sessions: int, changes: Mapping[str, Change], console: Console) -> None:
    """Medians, and the ratio of neighbours with its spread; the callers are there to show the machine's own noise."""
    title = f"\nwhat metrics cost at {sessions} sessions, CPU per session, % of one core"
    table = new_table(title, "", "without", "with", "ratio", "spread")
    for name, change in changes.items():
        label = f"({name})" if name == CALLERS else name
        spread = f"{change.low:.2f}–{change.high:.2f} {change.told}"
        table.add_row(label, f"{change.before:.3f}", f"{change.now:.3f}", f"{change.ratio:.2f}", spread)
    console.print(table)


if __name__ == "__main__":
    import typer

    from benchmarks.command import metrics

    typer.run(metrics)
