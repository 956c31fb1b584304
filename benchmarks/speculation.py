"""What it brings to prepare the reply before the turn is over: `python -m benchmarks.speculation`.

The same callers, the same system, engines that take 80 ms to understand, 100 ms to the first token and 80 ms to the first
audio; once with speculation and once without, in turn. Told is how long after the endpoint the first audio comes.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Run
from benchmarks.machine import RESULTS, circumstances, result_path
from benchmarks.measure import summary
from benchmarks.pipeline import ENDPOINT_MS, RunFailed, measure
from benchmarks.report import HARM, open_console
from deploy.broker import BrokerError
from deploy.supervisor import StartFailed
from tests.support.system import SCRIPTED

DELAYS_MS = {"asr": 80, "llm": 100, "tts": 80}
ENV = {**SCRIPTED, **{f"PARLEY_SCRIPTED_{stage.upper()}_MS": str(ms) for stage, ms in DELAYS_MS.items()}}
TARGET_MS = {"p50": 10, "p99": 25}
BARGE_TARGET_MS = 140


async def run_all(options: argparse.Namespace, console: Console) -> dict[tuple[int, int], list[Run]]:
    """All runs, with and without in turn."""
    runs: dict[tuple[int, int], list[Run]] = {}
    for repeat in range(options.repeat):
        for sessions in options.sessions:
            for speculations in (3, 0):
                run = Run(sessions, repeat)
                options.speculations = speculations
                await measure(run, options, lambda phase: None, ENV)
                runs.setdefault((sessions, speculations), []).append(run)
                after = summary(run.overhead_ms)
                console.print(
                    f"{sessions} sessions, speculation {'on' if speculations else 'off'}: "
                    f"endpoint + p50 {after['p50']:.1f}, p99 {after['p99']:.1f} ms, n {after['n']}"
                )
    return runs


def digest(runs: dict[tuple[int, int], list[Run]]) -> list[dict[str, Any]]:
    """The figures of each kind of run, over its repeats."""
    return [
        {
            "sessions": sessions,
            "speculation": bool(speculations),
            "after_endpoint_ms": summary([value for run in same for value in run.overhead_ms]),
            "barge_ms": summary([value for run in same for value in run.barge_ms]),
            "cpu_percent": sum(sum(run.cpu_percent.values()) - run.cpu_percent["callers"] for run in same) / len(same),
            "harm": {name: sum(run.counts.get(name, 0) for run in same) for name in HARM},
            "errors": [error for run in same for error in run.errors],
        }
        for (sessions, speculations), same in runs.items()
    ]


def show(figures: list[dict[str, Any]], console: Console) -> None:
    """The figures as a table."""
    table = Table(title="end of speech to first audio, ms after the endpoint", title_justify="left", box=None)
    for heading in ("sessions", "speculation", "p50", "p95", "p99", "n", "barge-in p50", "p95", "CPU %", "harm"):
        table.add_column(heading, justify="right")
    for row in figures:
        after, barge = row["after_endpoint_ms"], row["barge_ms"]
        table.add_row(
            *(str(row["sessions"]), "on" if row["speculation"] else "off"),
            *(f"{after[name]:.1f}" for name in ("p50", "p95", "p99")),
            str(after["n"]),
            *(f"{barge[name]:.0f}" if barge["n"] else "–" for name in ("p50", "p95") if barge["n"] or name == "p50"),
            f"{row['cpu_percent']:.2f}",
            ", ".join(f"{count} {name}" for name, count in row["harm"].items() if count) or "none",
        )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculation", description=__doc__)
    parser.add_argument("--sessions", type=lambda text: [int(number) for number in text.split(",")], default=[1, 20])
    parser.add_argument("--seconds", type=float, default=60, help="of plain turns in each run; a turn takes 4")
    parser.add_argument("--barge", type=float, default=20, help="seconds of interruptions in each run")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    options.grain_ms, options.profile, options.log = 1.0, None, False
    console = open_console(sys.stdout)
    try:
        runs = asyncio.run(run_all(options, console))
    except (RunFailed, StartFailed, BrokerError) as error:
        console.print(f"no result: {error}", markup=False)
        return 1
    figures = digest(runs)
    show(figures, console)
    result = circumstances() | {"endpoint_ms": ENDPOINT_MS, "delays_ms": DELAYS_MS, "figures": figures}
    path = result_path(options.out, "speculation", result)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    console.print(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
