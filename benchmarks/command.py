"""The commands `parley bench …`. They parse, and call what does the work, which is imported only then."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

bench = typer.Typer(help="Measure what runs on this machine.", no_args_is_help=True)


@bench.command()
def engines(
    engine: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=ENGINE", help="Which to measure; else all of the profile.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Sessions at once, one after another.")] = "1,4,16,64",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Models made here, of random numbers: for speed only.")
    ] = False,
    size: Annotated[Literal["full", "laptop", "tiny"], typer.Option(help="Of these.")] = "full",
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Repetitions, after one that does not count.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Length of an utterance.")] = 5.0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps [PARLEY_DEVICE].")] = None,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Where the result goes.")] = None,
    compare: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A result; what is worse than that fails.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the most expensive operations, too.")] = False,
    chain: Annotated[
        bool, typer.Option("--chain", help="Measure all three as one conversation needs them, too.")
    ] = False,
) -> None:
    """Measure each engine alone: how long a session waits for it, how many it keeps up with, and what memory it takes.

    Exit code: 0 all was measured, 1 something regressed or could not be measured, 2 the settings are wrong.
    PARLEY_TEST_CLIPS names a folder with recorded speech; without it something is heard that is shaped like speech.
    """
    from benchmarks.engine_setup import Options, parse_batches, parse_engines
    from benchmarks.engines import run_engines

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


@bench.command()
def pipeline(
    sessions: Annotated[str, typer.Option(help="Numbers of callers, with commas.")] = "1,10,50,100",
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Of plain turns in each run; a turn takes 4.")] = 32.0,
    barge: Annotated[float, typer.Option(min=0, max=3600, help="Seconds of interruptions in each run.")] = 12.0,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each number.")] = 2,
    grain_ms: Annotated[float, typer.Option(min=0.1, max=20, help="Finest spacing of callers within 20 ms.")] = 1.0,
    speculations: Annotated[int, typer.Option(min=0, help="Replies prepared before a turn is over.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Folder of the results.")] = None,
    compare: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A result; what is worse than that fails.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Another checkout, measured in turn; what is worse fails."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="SERVICE", help="Draw where a service's time goes (needs py-spy).")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Show what the system wrote.")] = False,
) -> None:
    """Measure what the pipeline itself costs: a whole system with scripted engines, and callers in real time.

    Exit code: 0 all was measured, 1 something regressed or could not be measured, 2 what was asked for is wrong.
    A machine is faster in one hour than in another: --against is the comparison to trust, with a --repeat of 4 or more.
    """
    from benchmarks.machine import RESULTS
    from benchmarks.pipeline import Options
    from benchmarks.pipeline_runs import run_pipeline

    if profile and not shutil.which("py-spy"):
        _refuse("--profile needs the program py-spy: pip install py-spy")
    options = Options(
        _numbers("--sessions", sessions), seconds, barge, repeat, grain_ms, speculations, json,
        out or RESULTS, profile, log, compare, against,
    )  # fmt: skip
    raise typer.Exit(run_pipeline(options))


@bench.command()
def history(
    kind: Annotated[Literal["pipeline", "engines"], typer.Argument(help="Of which results.")] = "pipeline",
    sessions: Annotated[
        int | None, typer.Option(min=1, help="Of which number of sessions; else 50 for the pipeline, 1 for engines.")
    ] = None,
    results: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the results.")] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="The PNG; else beside the results.")] = None,
) -> None:
    """Show the main figures of all results over the commits, each machine by itself."""
    from benchmarks.history import show_history
    from benchmarks.machine import RESULTS

    folder = results or RESULTS
    raise typer.Exit(show_history(kind, sessions, folder, out or folder / f"history-{kind}.png"))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Positive numbers with commas between them, each once."""
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        _refuse(f"{name} {text!r}: numbers above 0 with commas between them, such as 1,10,50")
    return numbers


def _refuse(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise typer.Exit(2)
