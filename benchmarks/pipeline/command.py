"""The command `pipeline`: reads the options, and imports the benchmark only when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.compare import CompareWith
from benchmarks.result import RESULTS, USAGE_WRONG, Out


def pipeline(
    sessions: Annotated[str, typer.Option(help="Numbers of callers, with commas.")] = "1,10,50,100",
    seconds: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds of plain turns in each run; a turn takes 4.")
    ] = 32.0,
    barge: Annotated[float, typer.Option(min=0, max=3600, help="Seconds of interruptions in each run.")] = 12.0,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Runs for each number of callers.")] = 2,
    speculations: Annotated[int, typer.Option(min=0, help="Replies prepared before a turn is over.")] = 3,
    out: Out = RESULTS,
    compare: CompareWith = None,
    against: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Other checkout to measure in turn; fail where this one is worse."
        ),
    ] = None,
) -> None:
    """Measure the pipeline without models: a whole system with scripted engines, and callers in real time.

    Exit code: 0 measured, 1 a figure regressed or there is no result, 2 the options are wrong.
    The speed of a machine changes from hour to hour: prefer --against, with --repeat 4 or more.
    """
    from benchmarks.pipeline.run import Options
    from benchmarks.pipeline.runs import run_pipeline

    try:
        numbers = _numbers(sessions)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE_WRONG) from None
    options = Options(numbers, seconds, barge, repeat, speculations, out, compare, against)
    raise typer.Exit(run_pipeline(options))


def _numbers(text: str) -> tuple[int, ...]:
    """Parse positive numbers with commas. Returns each once; raises `ValueError` for anything else."""
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ValueError(f"--sessions {text!r}: it needs positive numbers with commas, such as 1,10,50")
    return numbers
