"""All runs of the pipeline's benchmark: in turn with another checkout, shown, written, held against a baseline."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from benchmarks.against import OtherFailed, check_checkout, run_other
from benchmarks.compare import Comparison, print_comparison, read_result
from benchmarks.figures import CALLERS, Run, digest
from benchmarks.machine import circumstances, result_path
from benchmarks.measure import summary
from benchmarks.pipeline import ENDPOINT_MS, Options, RunFailed, measure
from benchmarks.pipeline_compare import check_baseline, compare_apart, compare_in_turn
from benchmarks.report import draw, open_console, print_report
from deploy.local.broker import BrokerError
from deploy.local.supervisor import StartFailed
from shared.distribution import not_installed

USAGE_WRONG = 2


async def measure_all(options: Options, console: Console) -> tuple[list[Run], list[dict[str, Any]]]:
    """All runs, and those of the other checkout where there is one.

    The numbers of sessions are interleaved, so that a slow hour of the machine hits all of them. The checkouts take
    turns, and which of them begins does, too.
    """
    runs = [Run(sessions, repeat) for repeat in range(options.repeat) for sessions in options.sessions]
    others: list[dict[str, Any]] = []
    with console.status("") as status:
        for number, run in enumerate(runs, 1):
            label = f"run {number} of {len(runs)}: {run.sessions} sessions"

            async def here(run: Run = run, label: str = label) -> None:
                await measure(run, options, lambda phase: status.update(f"{label}, {phase}"))
                console.print(f"{label}: {_in_short(run)}", markup=False)

            async def there(run: Run = run, label: str = label) -> None:
                if options.against is not None:
                    status.update(f"{label}, the other checkout")
                    others.append(await run_other(options.against, run, options))
                    console.print(f"{label}, {others[-1]['commit']}: measured", markup=False)

            for one in (here, there) if run.repeat % 2 == 0 else (there, here):
                await one()
    return runs, others


def _in_short(run: Run) -> str:
    """The heart of a run, to be read while others are still to come."""
    overhead, barge, cpu = summary(run.overhead_ms), summary(run.barge_ms), run.cpu_percent
    return ", ".join(
        [
            f"overhead p50 {overhead['p50']:.1f}, p99 {overhead['p99']:.1f} ms" if overhead["n"] else "no reply",
            f"barge-in {barge['p50']:.0f} ms" if barge["n"] else "no interrupt",
            f"{sum(cpu.values()) - cpu[CALLERS]:.2f} % of a core per session",
            *run.errors,
        ]
    )


def run_pipeline(options: Options) -> int:
    """Measure, show, write and compare.

    Returns 0; 1 where a figure regressed or there is no result; 2 where what is asked for cannot be.
    """
    console = open_console(sys.stderr)
    where = circumstances() | {"endpoint_ms": ENDPOINT_MS, "settings": _settings()}
    path = result_path(options.out, "pipeline", where)
    try:
        baseline = _baseline(options, where, path)
        if options.against is not None:
            check_checkout(options.against)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE_WRONG
    try:
        runs, others = asyncio.run(measure_all(options, console))
    except (RunFailed, OtherFailed, StartFailed, BrokerError) as error:
        console.print(f"no result: {error}", markup=False)
        return 1
    result: dict[str, Any] = where | {
        "broker": runs[0].broker,
        "grain_ms": options.grain_ms,
        "seconds": options.seconds,
        "figures": digest(runs),
        "runs": [run.figures() for run in runs],
        "others": others,
    }
    told = open_console(sys.stderr if options.json else sys.stdout)
    _write(result, path, told)
    if options.json:
        print(orjson.dumps(result).decode())
    else:
        print_report(result, told)
    comparisons: list[tuple[str, Comparison]] = []
    if baseline is not None:
        before = f"{baseline['commit']} of {baseline['date'][:10]}"
        _tell_differences(baseline, result, told)
        comparisons.append((before, compare_apart(baseline["runs"], result["runs"])))
    if others:
        comparisons.append((f"{others[0]['commit']}, in turn", compare_in_turn(others, result["runs"])))
    for before, comparison in comparisons:
        print_comparison(comparison, told, before)
    return 1 if any(comparison.regressions for _, comparison in comparisons) else 0


def _settings() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.startswith("PARLEY_") and "URL" not in name}


def _baseline(options: Options, where: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """The result to compare with; `ValueError` where it does not fit or would be written over."""
    if options.compare is None:
        return None
    try:
        if path.resolve() == options.compare.resolve():
            raise ValueError("this run would write over it; name another folder with --out")
        baseline = read_result(options.compare)
        check_baseline(baseline, where, options.sessions)
    except ValueError as error:
        raise ValueError(f"--compare {options.compare}: {error}") from error
    return baseline


def _tell_differences(baseline: Mapping[str, Any], result: Mapping[str, Any], console: Console) -> None:
    """What a comparison allows, and a reader should know."""
    for name in ("broker", "python", "system"):
        if baseline.get(name) != result[name]:
            console.print(f"the baseline had another {name}: {baseline.get(name)}, now {result[name]}", markup=False)


def _write(result: dict[str, Any], path: Path, console: Console) -> None:
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    console.print(f"\n{path}", markup=False)
    try:
        draw(result, path.with_suffix(".png"))
    except ImportError:
        console.print(f"no plot: {not_installed('matplotlib', 'bench')}", markup=False)
    else:
        console.print(str(path.with_suffix(".png")), markup=False)
