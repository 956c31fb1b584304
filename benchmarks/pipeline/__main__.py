"""`python -m benchmarks.pipeline`: so another checkout runs this benchmark, for its `--against`."""

import typer

from benchmarks.pipeline.command import pipeline

typer.run(pipeline)
