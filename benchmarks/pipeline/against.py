"""Runs the benchmark of another checkout: its code, its callers, its virtual environment if it has one.

The two agree on `python -m benchmarks.pipeline`, on the options that are given here, and on the runs in the result.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.pipeline.figures import Run
from benchmarks.pipeline.run import Options
from benchmarks.result import read_result

BESIDE_S = 120.0
"""Time that it may take beside its phases, to start and to stop."""
STOP_S = 20.0
SHOWN_LINES = 20


class OtherFailed(RuntimeError):
    """The other checkout gave no figures. The message holds the last lines that it wrote."""


def check_checkout(folder: Path) -> None:
    """Raise `ValueError` where there is no benchmark to run."""
    if not any((folder / "benchmarks" / name).is_file() for name in ("pipeline/__main__.py", "pipeline.py")):
        raise ValueError(f"--against {folder}: not a checkout of this project: it has no benchmarks/pipeline")


def interpreter(folder: Path) -> str:
    """The Python of the checkout's own environment, or else ours."""
    own = folder / ".venv" / "bin" / "python"
    return str(own.absolute()) if own.exists() else sys.executable


async def run_other(folder: Path, run: Run, options: Options) -> dict[str, Any]:
    """Do the same run there. Returns its figures and the commit.

    Raises:
        OtherFailed: it failed, took too long, or wrote something that is not a result.
    """
    with tempfile.TemporaryDirectory(prefix="parley-against-") as out:
        given: dict[str, object] = {"sessions": run.sessions, "seconds": options.seconds, "barge": options.barge}
        given |= {"repeat": 1, "speculations": options.speculations, "out": out}
        arguments = [f"--{name}={value}" for name, value in given.items()]
        await _run(folder, arguments, options.seconds + options.barge + BESIDE_S)
        return await asyncio.to_thread(_read, folder, Path(out), run)


def _read(folder: Path, out: Path, run: Run) -> dict[str, Any]:
    try:
        (path,) = out.glob("pipeline-*.json")
        found = read_result(path)
        (one,) = found["runs"]
        return {**one, "repeat": run.repeat, "commit": found["commit"]}
    except (ValueError, KeyError, TypeError) as error:
        raise OtherFailed(f"{folder} wrote no result: {error!r}") from error


async def _run(folder: Path, arguments: list[str], limit_s: float) -> None:
    process = await asyncio.create_subprocess_exec(
        *(interpreter(folder), "-m", "benchmarks.pipeline", *arguments),
        cwd=folder,
        env=environment(os.environ, folder),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C reaches it once, through us; a second one would interrupt its shutdown
    )
    try:
        async with asyncio.timeout(limit_s):
            _, written = await process.communicate()
    except TimeoutError:
        raise OtherFailed(f"{folder} took longer than {limit_s:g} s") from None
    finally:
        await _stop(process)
    if process.returncode:
        last = "\n".join(written.decode(errors="replace").splitlines()[-SHOWN_LINES:])
        raise OtherFailed(f"{folder} ended with exit code {process.returncode}:\n{last}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Interrupt it as a keyboard would. If it were killed, its system would go on running."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError, TimeoutError):
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_S):
            await process.wait()
            return
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Put the checkout's code before what is installed: its services are started with `-P` and would find ours."""
    paths = [str(folder.absolute()), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}
