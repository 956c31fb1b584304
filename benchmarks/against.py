"""Runs another checkout's benchmark beside this one's: its code, its callers, its virtual environment if it has one."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from benchmarks.compare import read_result
from benchmarks.figures import Run

BESIDE_S = 120.0
"""How much longer than its phases it may take: to start, to stop, to draw."""
STOP_S = 20.0
TOLD_LINES = 20


class OtherFailed(RuntimeError):
    """The other checkout gave no figures; the message holds what it wrote last."""


class Phases(Protocol):
    """How a run goes."""

    @property
    def seconds(self) -> float: ...
    @property
    def barge(self) -> float: ...
    @property
    def grain_ms(self) -> float: ...
    @property
    def speculations(self) -> int: ...


def check_checkout(folder: Path) -> None:
    """Raises `ValueError` where there is no benchmark to run."""
    if not (folder / "benchmarks" / "pipeline.py").is_file():
        raise ValueError(f"--against {folder}: no checkout of this project: it has no benchmarks/pipeline.py")


def interpreter(folder: Path) -> str:
    """The checkout's own, or else ours."""
    own = folder / ".venv" / "bin" / "python"
    return str(own.absolute()) if own.exists() else sys.executable


async def run_other(folder: Path, run: Run, phases: Phases) -> dict[str, Any]:
    """One run as `run` is: the figures of it, and the commit.

    Raises:
        OtherFailed: it failed, took too long, or wrote something that is no result.
    """
    with tempfile.TemporaryDirectory(prefix="parley-against-") as out:
        given: dict[str, object] = {
            "sessions": run.sessions,
            "seconds": phases.seconds,
            "barge": phases.barge,
            "repeat": 1,
        }
        given |= {"grain-ms": phases.grain_ms, "speculations": phases.speculations, "out": out}
        arguments = [f"--{name}={value}" for name, value in given.items()]
        await _run(folder, arguments, phases.seconds + phases.barge + BESIDE_S)
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
        start_new_session=True,  # a Ctrl-C reaches it once, from here: a second one would cut its own stopping short
    )
    try:
        async with asyncio.timeout(limit_s):
            _, written = await process.communicate()
    except TimeoutError:
        raise OtherFailed(f"{folder} took longer than {limit_s:g} s") from None
    finally:
        await _stop(process)
    if process.returncode:
        last = "\n".join(written.decode(errors="replace").splitlines()[-TOLD_LINES:])
        raise OtherFailed(f"{folder} ended with exit code {process.returncode}:\n{last}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """By an interrupt, as from a keyboard: killed, it would leave its system behind."""
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
    """With the checkout's code before what is installed: its services are started with `-P`, and would find ours."""
    paths = [str(folder.absolute()), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}
