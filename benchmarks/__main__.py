"""The command line of the benchmarks: `python -m benchmarks`, or `parley bench` in a checkout."""

import sys

import typer

from benchmarks.chaos.command import chaos
from benchmarks.engines.command import engines
from benchmarks.load.command import load
from benchmarks.pipeline.command import pipeline
from benchmarks.result import USAGE_WRONG
from benchmarks.soak.command import soak
from benchmarks.talk import talk
from benchmarks.turn_ends.run import turn_ends
from benchmarks.turn_taking.run import turn_taking
from benchmarks.wer import wer
from shared.settings import BadSettings, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False)
for command in (pipeline, load, engines, turn_taking, turn_ends, talk, wer, chaos, soak):
    app.command()(command)


@app.callback()
def check_settings() -> None:
    """Measure what runs on this machine."""
    try:
        load_settings()
    except BadSettings as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE_WRONG) from None


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
