"""The main figures of all results over the commits.

Results are ordered by the time of their commit. A result of a commit that is unknown here is placed by its own date. Each
machine has its own table and its own line: figures of different machines cannot be compared.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from benchmarks.result import HERE, RESULTS, USAGE_WRONG, Result, read_result
from benchmarks.tables import open_console, print_rows
from shared.distribution import not_installed

Figures = Mapping[str, float]
"""Value by title with unit."""

SESSIONS = {"pipeline": 50, "engines": 1}
GIT_S = 10.0
DIRTY = "-dirty"


@dataclass(frozen=True, slots=True)
class Point:
    commit: str
    at: datetime
    """When the commit was made or, if that is not known, when this was measured."""
    measured_at: datetime
    machine: str
    figures: Figures


def pipeline_figures(result: Result, sessions: int) -> Figures:
    """The figures of this number of sessions; empty where there are none."""
    for row in result["figures"]:
        if row["sessions"] == sessions:
            found = {}
            if row["overhead_ms"]["n"]:
                found = {f"overhead {part}, ms": row["overhead_ms"][part] for part in ("p50", "p99")}
            if row["barge_ms"]["n"]:
                found["barge-in p50, ms"] = row["barge_ms"]["p50"]
            memory = sum(row["mib_idle"].values()) + sessions * sum(row["mib_per_session"].values())
            return found | {"CPU per session, %": row["cpu_percent_total"], "memory, MiB": memory}
    return {}


_OF_STAGE = {
    "asr": ("final_ms", "transcript p50, ms"),
    "llm": ("first_token_ms", "first token p50, ms"),
    "tts": ("first_clause_audio_ms", "first audio p50, ms"),
    "chain": ("total_ms", "whole chain p50, ms"),
}


def engine_figures(result: Result, sessions: int) -> Figures:
    """The delay of each stage that was measured with this number of sessions."""
    found = {}
    for entry in result["entries"]:
        name, title = _OF_STAGE[entry["stage"]]
        if entry["batch"] == sessions and entry["figures"].get(name, {}).get("n"):
            found[title] = entry["figures"][name]["p50"]
    return found


def pipeline_machine(result: Result) -> str:
    return f"{result['cores']} cores of {result['cpu']}"


def engine_machine(result: Result) -> str:
    device = result["device"]
    return f"{device['name']}, {device['dtype'] or 'no torch'}, {result['size']} models"


_READERS: Mapping[str, tuple[Callable[[Result], str], Callable[[Result, int], Figures]]] = {
    "pipeline": (pipeline_machine, pipeline_figures),
    "engines": (engine_machine, engine_figures),
}


def history(
    kind: Annotated[Literal["pipeline", "engines"], typer.Argument(help="Which results.")] = "pipeline",
    sessions: Annotated[
        int | None, typer.Option(min=1, help="At this number of sessions; else 50 for the pipeline, 1 for engines.")
    ] = None,
    results: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the results.")] = RESULTS,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="The PNG; else beside the results.")] = None,
) -> None:
    """Show the main figures of all results over the commits, each machine by itself.

    Files that are not results, or of a layout that cannot be read, are named and left out.
    Exit code: 0, or 2 if there is nothing to show.
    """
    console = open_console(sys.stdout)
    sessions, path = sessions or SESSIONS[kind], out or results / f"history-{kind}.png"
    points = sorted(read_points(kind, sessions, results, commit_time), key=lambda point: (point.at, point.measured_at))
    if not points:
        print(f"{results}: no result of `parley bench {kind}` with {sessions} sessions", file=sys.stderr)
        raise typer.Exit(USAGE_WRONG)
    print_history(kind, sessions, points, console)
    try:
        draw_history(kind, sessions, points, path)
    except ImportError:
        console.print(f"no plot: {not_installed('matplotlib', 'bench')}", markup=False)
    else:
        console.print(f"\n{path}", markup=False)


def read_points(kind: str, sessions: int, folder: Path, when: Callable[[str], datetime | None]) -> Iterator[Point]:
    """Read each result in the folder that has the figures. `when` gives the time of a commit, None if it is unknown."""
    machine, figures = _READERS[kind]
    for path in sorted(folder.glob(f"{kind}-*.json")):
        try:
            result = read_result(path)
            measured_at = datetime.fromisoformat(result["date"]).astimezone(UTC)
            commit = str(result["commit"])
            found = figures(result, sessions)
            at = when(commit.removesuffix(DIRTY)) or measured_at
            if found:
                yield Point(commit, at, measured_at, machine(result), found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = error if isinstance(error, ValueError) else f"not of today's layout: {error!r}"
            print(f"left out: {path}: {reason}", file=sys.stderr)


def commit_time(commit: str) -> datetime | None:
    """When a commit of this repository was made; None if it is not known."""
    command = ("git", "-C", str(HERE), "show", "--no-patch", "--format=%ct", "--end-of-options", f"{commit}^{{commit}}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_S)
        return datetime.fromtimestamp(int(done.stdout), UTC)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def machines_of(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.machine for point in points))


def print_history(kind: str, sessions: int, points: Sequence[Point], console: Console) -> None:
    """Print a table for each machine, the oldest commit first."""
    for machine in machines_of(points):
        rows = [
            {
                "commit": point.commit,
                "committed": f"{point.at:%Y-%m-%d %H:%M}",
                "measured": f"{point.measured_at:%Y-%m-%d}",
            }
            | {title: f"{value:.4g}" for title, value in point.figures.items()}
            for point in points
            if point.machine == machine
        ]
        print_rows(f"{kind}, {sessions} sessions, {machine}", rows, console)


def draw_history(kind: str, sessions: int, points: Sequence[Point], path: Path) -> None:
    """Draw a panel for each figure. The commits are evenly spaced, in their order.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("agg")  # before pyplot is imported: there may be no display
    from matplotlib import pyplot as plt

    titles = list(dict.fromkeys(title for point in points for title in point.figures))
    commits = list(dict.fromkeys(point.commit for point in points))
    figure, all_axes = plt.subplots(1, len(titles), figsize=(4 * len(titles), 4.2), layout="constrained", squeeze=False)
    for axes, title in zip(all_axes[0], titles, strict=True):
        for machine in machines_of(points):
            mine = [point for point in points if point.machine == machine and title in point.figures]
            places = [commits.index(point.commit) for point in mine]
            axes.plot(places, [point.figures[title] for point in mine], "o-", label=machine)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(commits)), commits, rotation=60, ha="right", fontsize=7)
        axes.set_ylim(0, 1.1 * max(axes.dataLim.y1, 1e-9))
        axes.grid(alpha=0.3)
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)
    figure.suptitle(f"{kind}, {sessions} sessions, over the commits", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
