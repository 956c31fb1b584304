"""`parley bench`: replaces itself with `python -m benchmarks` of the checkout. The benchmarks are not installed with Parley."""

import os
import sys

import typer

from deploy.cli.options import SETTINGS_WRONG
from shared.distribution import checkout


def bench(context: typer.Context) -> None:
    """Run a benchmark: latency, engines, turn-taking. Works only in a clone of the repository."""
    root = checkout()
    if root is None:
        print("The benchmarks are not installed with Parley. Run this in a clone of its repository.", file=sys.stderr)
        raise typer.Exit(SETTINGS_WRONG)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    argv = [sys.executable, "-m", "benchmarks", *context.args]
    os.execve(sys.executable, argv, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})  # noqa: S606  no shell
