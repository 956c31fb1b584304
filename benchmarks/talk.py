"""How soon a whole system with real models answers a person: recordings, one conversation at a time.

The times are those that `parley talk` prints: from the end of speech, by the caller's clock.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console

from benchmarks.compare import CompareWith, Comparison, Key, Kind, Rule, compare, print_regressions, read_baseline
from benchmarks.result import RESULTS, USAGE_WRONG, Out, Result, circumstances, result_path, write_result
from benchmarks.tables import open_console, print_rows
from deploy.client.conversation import Recording, TalkFailed, converse
from deploy.client.talk import read_speech
from tests.support.system import BrokerError, StartFailed, System, running_system

MIB = 2**20
STEPS = ("endpoint", "transcript", "first_token", "first_sentence", "first_audio")
AFTER = "first audio after the endpoint"
RULE = Rule(1.15, 20.0)
"""A typical time that is 15 % and 20 ms longer is a regression."""


async def measure(files: Sequence[Path], profile: str, repeat: int) -> dict[str, Any]:
    """Play each recording `repeat` times. Returns the turns, and the memory of the processes, in bytes."""
    turns = []
    async with running_system({"PARLEY_PROFILE": profile}) as system:
        for number in range(repeat):
            for file in files:
                conversation = await converse(Recording(read_speech(file)), system.url)
                print(f"{number + 1}/{repeat} {file.name}", file=sys.stderr)
                turns += [
                    {"file": file.name, "repeat": number, "said": turn.said, "reply": turn.reply, "marks": turn.marks}
                    for _, turn in sorted(conversation.turns.items())
                    if {"endpoint", "first_audio"} <= turn.marks.keys()
                ]
        return {"turns": turns, "bytes": memory_of(system)}


def memory_of(system: System) -> dict[str, int]:
    """Proportional set size of each process: memory that several of them share counts once."""
    return {name: psutil.Process(pid).memory_full_info().pss for name, pid in system.pids.items()}


def after_endpoint(turn: Mapping[str, Any]) -> float:
    """Milliseconds from the end of the turn to its first audio."""
    return float(turn["marks"]["first_audio"] - turn["marks"]["endpoint"])


def samples_of(result: Result) -> dict[Key, dict[int, float]]:
    repeats = sorted({turn["repeat"] for turn in result["turns"]})
    figures: dict[str, dict[int, float]] = {}
    for number in repeats:
        turns = [turn for turn in result["turns"] if turn["repeat"] == number]
        figures.setdefault(AFTER, {})[number] = float(np.median([after_endpoint(turn) for turn in turns]))
        figures.setdefault("first audio", {})[number] = float(
            np.median([turn["marks"]["first_audio"] for turn in turns])
        )
    return {("all recordings", f"{name}, p50, ms"): values for name, values in figures.items()}


def _same(result: Result) -> Mapping[str, object]:
    return {"profile": result["profile"], "recordings": sorted({turn["file"] for turn in result["turns"]})}


KIND = Kind("parley bench talk", samples_of, _same)


def compare_results(before: Result, now: Result) -> Comparison:
    return compare(samples_of(before), samples_of(now), lambda key: RULE)


def print_table(result: Result, console: Console) -> None:
    rows = []
    for file in dict.fromkeys(turn["file"] for turn in result["turns"]):
        turns = [turn for turn in result["turns"] if turn["file"] == file]
        medians = {step: np.median([turn["marks"].get(step, np.nan) for turn in turns]) for step in STEPS}
        rows.append({"recording": file, **{step.replace("_", " "): f"{value:.0f}" for step, value in medians.items()}})
    print_rows("ms from the end of speech, median", rows, console)
    after = [after_endpoint(turn) for turn in result["turns"]]
    whole = [turn["marks"]["first_audio"] for turn in result["turns"]]
    summary = [
        {
            "figure": name,
            "turns": str(len(values)),
            "p50, ms": f"{np.median(values):.0f}",
            "p95, ms": f"{np.percentile(values, 95):.0f}",
        }
        for name, values in ((AFTER, after), ("first audio after the end of speech", whole))
    ]
    print_rows("all recordings", summary, console)
    sizes = {name: f"{size / MIB:.0f}" for name, size in result["bytes"].items()}
    print_rows("memory, MiB", [{**sizes, "all": f"{sum(result['bytes'].values()) / MIB:.0f}"}], console)


def talk(
    clips: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder with recordings, *.wav.")],
    profile: Annotated[str, typer.Option(help="Profile of the system.")] = "light",
    repeat: Annotated[int, typer.Option(min=1, max=100, help="How often each recording is played.")] = 3,
    out: Out = RESULTS,
    compare_with: CompareWith = None,
) -> None:
    """Measure how soon a system with real models answers recordings, and how much memory it takes.

    Exit code: 0 measured, 1 a figure regressed or there is no result, 2 the options are wrong.
    """
    where = circumstances() | {"profile": profile}
    path = result_path(out, "talk", where)
    files = sorted(clips.glob("*.wav"))
    try:
        if not files:
            raise ValueError(f"{clips} has no recordings (*.wav)")
        baseline = read_baseline(compare_with, KIND, where | {"turns": [{"file": file.name} for file in files]}, path)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE_WRONG) from None
    try:
        result = where | asyncio.run(measure(files, profile, repeat))
    except (TalkFailed, StartFailed, BrokerError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    if not result["turns"]:
        print("no turn was answered", file=sys.stderr)
        raise typer.Exit(1)
    write_result(result, path)
    console = open_console(sys.stdout)
    print_table(result, console)
    print(path)
    raise typer.Exit(1 if print_regressions(compare_results, baseline, result, console) else 0)
