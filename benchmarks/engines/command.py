"""The command `engines`: reads the options, and imports the benchmark only when it runs."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.compare import CompareWith


def engines(
    engine: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=ENGINE", help="Which to measure; else all of the profile.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Sessions at once, one after another.")] = "1,4,16,64",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Use models with random weights: for speed only.")
    ] = False,
    size: Annotated[Literal["full", "laptop", "tiny"], typer.Option(help="Size of these models.")] = "full",
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Repetitions, after one that does not count.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Length of an utterance.")] = 5.0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps [PARLEY_DEVICE].")] = None,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="File of the result.")] = None,
    compare: CompareWith = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the most expensive operations, too.")] = False,
    chain: Annotated[
        bool, typer.Option("--chain", help="Measure all three as one conversation needs them, too.")
    ] = False,
) -> None:
    """Measure each engine alone: how long a session waits for it, how many it keeps up with, and what memory it takes.

    Exit code: 0 measured, 1 a figure regressed or could not be measured, 2 the settings are wrong.
    PARLEY_TEST_CLIPS names a folder with recorded speech; without it a synthetic sound shaped like speech is used.
    """
    from benchmarks.engines.bench import run_engines
    from benchmarks.engines.setup import Options, parse_batches, parse_engines

    clips = os.environ.get("PARLEY_TEST_CLIPS")
    try:
        options = Options(
            parse_engines(engine or ()), parse_batches(batch), random_weights, size, repeat, seconds,
            device, json, compare, profile, chain, Path(clips) if clips else None,
        )  # fmt: skip
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    raise typer.Exit(run_engines(options))
