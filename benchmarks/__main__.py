"""The command line of the benchmarks: `python -m benchmarks`, or `parley bench` in a checkout."""

import typer

from benchmarks.engines.command import engines
from benchmarks.history import history
from benchmarks.pipeline.command import pipeline
from benchmarks.turn_taking.run import turn_taking
from benchmarks.wer import wer

app = typer.Typer(help="Measure what runs on this machine.", no_args_is_help=True, add_completion=False)
for command in (pipeline, engines, turn_taking, wer, history):
    app.command()(command)

if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
