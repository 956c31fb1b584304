"""The command `turn-taking`: reads the options, and imports the benchmark only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.result import HERE, RESULTS


def turn_taking(
    scenes: Annotated[Path, typer.Option(exists=True, help="A .scene, or a folder of them.")] = HERE / "scenes",
    clips: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the recordings that scenes name.")
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="Use a whole system in real time; takes minutes.")] = False,
    vad: Annotated[str, typer.Option(help="Detectors, with commas.")] = "webrtc,silero",
    endpointing: Annotated[str, typer.Option(help="Endpointing engines, with commas.")] = "fixed,pace",
    asr: Annotated[str, typer.Option(help="The recogniser of --real.")] = "sphinx",
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the results.")] = RESULTS,
    compare: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Fail where a figure is worse than in this result.")
    ] = None,
) -> None:
    """Score turn-taking in scripted conversations: in virtual time, or through the whole system.

    Exit code: 0 measured, 1 a figure regressed, 2 the options are wrong.
    """
    from benchmarks.turn_taking.run import Options, run_turn_taking

    options = Options(scenes, clips, real, tuple(vad.split(",")), tuple(endpointing.split(",")), asr, out, compare)
    raise typer.Exit(run_turn_taking(options))
