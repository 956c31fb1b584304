"""All runs of the pipeline's benchmark: in turn with another checkout, shown, written, and compared."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.compare import Comparison, print_comparison, read_baseline
from benchmarks.figures import summary
from benchmarks.pipeline.against import OtherFailed, check_checkout, run_other
from benchmarks.pipeline.comparison import KIND, compare_runs, label, samples_of
from benchmarks.pipeline.figures import CALLERS, Run, digest
from benchmarks.pipeline.report import print_report
from benchmarks.pipeline.run import ENDPOINT_MS, Options, RunFailed, measure
from benchmarks.result import USAGE_WRONG, Result, circumstances, result_path, write_result
from benchmarks.tables import open_console
from tests.support.system import BrokerError, StartFailed


async def measure_all(options: Options, console: Console) -> tuple[list[Run], list[dict[str, Any]]]:
    """Do all runs, and those of the other checkout if there is one.

    The numbers of sessions are interleaved, so that a slow hour of the machine hits all of them. The checkouts take
    turns, and so does which of them begins.
    """
    runs = [Run(sessions, repeat) for repeat in range(options.repeat) for sessions in options.sessions]
    others: list[dict[str, Any]] = []
    with console.status("") as status:
        for number, run in enumerate(runs, 1):
            text = f"run {number} of {len(runs)}: {run.sessions} sessions"

            def on_phase(phase: str, text: str = text) -> None:
                status.update(f"{text}, {phase}")

            for is_other in (False, True) if run.repeat % 2 == 0 else (True, False):
                if not is_other:
                    await measure(run, options, on_phase)
                    console.print(f"{text}: {_in_short(run)}", markup=False)
                elif options.against is not None:
                    status.update(f"{text}, the other checkout")
                    others.append(await run_other(options.against, run, options))
                    console.print(f"{text}, {others[-1]['commit']}: measured", markup=False)
    return runs, others


def _in_short(run: Run) -> str:
    """The main figures of a run, shown while others are still to come."""
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

    Returns 0; 1 if a figure regressed or there is no result; 2 if the options are wrong.
    """
    console = open_console(sys.stderr)
    where = circumstances() | {"endpoint_ms": ENDPOINT_MS, "settings": _settings()}
    path = result_path(options.out, "pipeline", where)
    try:
        baseline = _baseline(options.compare, where, options.sessions, path)
        if options.against is not None:
            check_checkout(options.against)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE_WRONG
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        runs, others = asyncio.run(measure_all(options, console))
    except (RunFailed, OtherFailed, StartFailed, BrokerError) as error:
        console.print(f"no result: {error}", markup=False)
        return 1
    result: dict[str, Any] = where | {
        "broker": runs[0].broker,
        "seconds": options.seconds,
        "figures": digest(runs),
        "runs": [run.figures() for run in runs],
        "others": others,
    }
    shown = open_console(sys.stdout)
    write_result(result, path)
    shown.print(f"\n{path}", markup=False)
    print_report(result, shown)
    comparisons: list[tuple[str, Comparison]] = []
    if baseline is not None:
        _tell_differences(baseline, result, shown)
        before = f"{baseline['commit']} of {baseline['date'][:10]}"
        comparisons.append((before, compare_runs(baseline["runs"], result["runs"], in_turn=False)))
    if others:
        comparisons.append((f"{others[0]['commit']}, in turn", compare_runs(others, result["runs"], in_turn=True)))
    for before, comparison in comparisons:
        print_comparison(comparison, shown, before)
    return 1 if any(comparison.regressions for _, comparison in comparisons) else 0


def _settings() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.startswith("PARLEY_") and "URL" not in name}


def _baseline(path: Path | None, here: Result, sessions: Sequence[int], out: Path) -> Result | None:
    """The result to compare with, if there is one. Raises ValueError where it does not fit or would be overwritten."""
    baseline = read_baseline(path, KIND, here, out)
    if baseline is None:
        return None
    found = {entry for entry, _ in samples_of(baseline["runs"])}
    if found.isdisjoint(map(label, sessions)):
        wanted = ", ".join(map(str, sessions))
        raise ValueError(
            f"--compare {path}: there is no run of {wanted} sessions in it, but {', '.join(sorted(found))}"
        )
    return baseline


def _tell_differences(baseline: Result, result: Result, console: Console) -> None:
    """Say what the comparison allows to differ and a reader should know."""
    for name in ("broker", "python", "system"):
        if baseline.get(name) != result[name]:
            console.print(f"the baseline had another {name}: {baseline.get(name)}, now {result[name]}", markup=False)
