"""The command `soak`: reads the options, and imports the soak only when it runs."""

from typing import Annotated

import typer

from benchmarks.result import RESULTS, Out


def soak(
    minutes: Annotated[float, typer.Option(min=0.2, max=24 * 60, help="How long sessions come and go.")] = 10.0,
    callers: Annotated[int, typer.Option(min=1, max=200, help="Sessions at the same time.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of what the callers do.")] = 1,
    out: Out = RESULTS,
) -> None:
    """Let sessions come and go, half of them without a close frame, and fail if memory, files, streams or keys grow.

    Exit code: 0 nothing grew, 1 something grew, or a turn was not answered, 2 the options are wrong.
    """
    from benchmarks.soak.run import run_soak

    raise typer.Exit(run_soak(minutes, callers, seed, out))
