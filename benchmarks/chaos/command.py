"""The command `chaos`: kills processes under talking sessions, shows and writes what happened."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.result import RESULTS, Out, circumstances, result_path, write_result
from benchmarks.tables import open_console, print_rows


def chaos(
    seed: Annotated[int, typer.Option(help="Chooses which worker is killed and when.")] = 1,
    kills: Annotated[int, typer.Option(min=1, max=10_000, help="Kills in all; a kill takes about 3 s.")] = 200,
    sessions: Annotated[int, typer.Option(min=1, max=500, help="Sessions that talk.")] = 20,
    out: Out = RESULTS,
) -> None:
    """Kill workers and edges with SIGKILL under talking sessions: half of the kills with one worker of each stage, half with two.

    Exit code: 0 nothing was lost, 1 something was lost or the run failed.
    """
    from benchmarks.chaos.run import LOSSES, run
    from tests.support.system import BrokerError, StartFailed

    console, where = open_console(sys.stderr), circumstances()
    runs = []
    try:
        with console.status("") as status:
            for workers, share in ((1, kills - kills // 2), (2, kills // 2)):

                def on_progress(text: str, workers: int = workers) -> None:
                    status.update(f"{workers} of each worker: {text}")

                if share:
                    on_progress("starting the system")
                    runs.append(asyncio.run(run(seed, share, sessions, workers, on_progress)))
    except (BrokerError, StartFailed, TimeoutError) as error:
        console.print(f"no result: {error or 'a process was not replaced in time'}", markup=False)
        raise typer.Exit(1) from None
    result = where | {"seed": seed, "sessions": sessions, "runs": runs}
    path = result_path(out, "chaos", where)
    write_result(result, path)
    shown = open_console(sys.stdout)
    shown.print(f"{path}", markup=False)
    for found in runs:
        print_run(found, shown)
    raise typer.Exit(int(any(found[name.replace(" ", "_")] for found in runs for name in LOSSES)))


def print_run(found: Mapping[str, Any], console: Console) -> None:
    losses = ("sessions_lost", "samples_lost", "samples_doubled", "turns_unanswered")
    console.print(
        f"\n{found['workers']} of each worker: {found['kills']} kills, {found['turns']} turns, "
        + ", ".join(f"{found[name]} {name.replace('_', ' ')}" for name in losses)
        + f"; first audio usually {found['first_audio_ms']:.0f} ms after speech",
        markup=False,
    )
    rows = [
        {
            "killed": row["kind"],
            "state": row["state"],
            "turns": str(row["turns"]),
            "delayed": str(row["delayed"]["n"]),
            **{name: f"{row['delayed'][name]:.0f}" if row["delayed"]["n"] else "–" for name in ("p50", "p95", "max")},
        }
        for row in found["recovery"]
    ]
    print_rows("From the kill to audio, ms, of the turns that a kill delayed", rows, console)
    total = found["recovery_ms"]
    if total["n"]:
        console.print(
            f"in all: p50 {total['p50']:.0f}, p95 {total['p95']:.0f}, max {total['max']:.0f} ms", markup=False
        )
    for error, times in found["errors"].items():
        console.print(f"     {times} × {error}", style="red", markup=False)
