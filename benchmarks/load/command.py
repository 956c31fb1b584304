"""The command `load`: reads the options, and imports the benchmark only when it runs."""

from typing import Annotated

import typer

from benchmarks.result import RESULTS, Out


def load(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Seconds of each burden.")] = 15.0,
    callers: Annotated[int, typer.Option(min=2, max=200, help="Callers who try to come in, one after another.")] = 20,
    only: Annotated[str, typer.Option(help="Burdens, with commas; empty: all. `ramp`: only the callers.")] = "",
    out: Out = RESULTS,
) -> None:
    """Load an edge with everything that one client can do to it, and with callers up to refusal and back.

    Exit code: 0 measured, 1 the other caller lost its session or was not answered, 2 the options are wrong.
    """
    from benchmarks.load.run import Options, run_load

    raise typer.Exit(run_load(Options(seconds, callers, tuple(filter(None, only.split(","))), out)))
