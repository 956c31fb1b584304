"""`python -m benchmarks.pipeline`: the entry point for the `--against` of another checkout."""

import typer

from benchmarks.pipeline.command import pipeline

typer.run(pipeline)
