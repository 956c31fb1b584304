"""All scenes with each detector and each endpointing engine: measured, shown, written and compared."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.compare import Comparison, Key, Kind, Rule, compare, print_comparison, read_baseline
from benchmarks.result import Result, circumstances, result_path, write_result
from benchmarks.tables import new_table, open_console
from benchmarks.turn_taking.real import real
from benchmarks.turn_taking.score import Score
from benchmarks.turn_taking.virtual import virtual
from deploy.client.performance import gather_sounds
from deploy.client.scene import BadScene, load_scenes
from shared.engines.registry import UnknownEngine

ALL = "all"
USAGE_WRONG = 2
WIDTH = 180

FAULTS = (
    "cut_offs",
    "missed_turns",
    "false_turns",
    "late_commits",
    "missed_barge_ins",
    "false_barge_ins",
    "wrong_resumes",
)
FAULT, DELAY = Rule(1.0, 1.0), Rule(1.10, 20.0)
"""One fault more is a regression. A delay has regressed if it grew by more than a tenth and by at least 20 ms."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the benchmark."""

    scenes: Path
    clips: Path | None
    real: bool
    detectors: tuple[str, ...]
    endpointing: tuple[str, ...]
    asr: str
    out: Path
    compare: Path | None


def samples_of(result: Result) -> dict[Key, dict[int, float]]:
    """Faults and median delays over all scenes, for each detector and endpointing engine."""
    found: dict[Key, dict[int, float]] = {}
    for row in result["rows"]:
        if row["scene"] == ALL:
            label = f"{row['detector']}, {row['endpointing']}"
            found |= {(label, name.replace("_", " ")): {0: float(row[name])} for name in FAULTS}
            found[label, "words wrong in the history"] = {0: float(sum(map(abs, row["history_off_words"])))}
            for name, title in (("commit_ms", "commit p50, ms"), ("silence_ms", "silence p50, ms")):
                if row[name]:
                    found[label, title] = {0: float(np.median(row[name]))}
    return found


def _same(result: Result) -> Mapping[str, object]:
    return {"way of measuring (--real)": result["real"], "recogniser": result["asr"]}


KIND = Kind("parley bench turn-taking", samples_of, _same)


def compare_results(before: Result, now: Result) -> Comparison:
    return compare(samples_of(before), samples_of(now), lambda key: DELAY if key[1].endswith("ms") else FAULT)


def run_turn_taking(options: Options) -> int:
    """Measure, show, write and compare. Returns 0; 1 if a figure regressed; 2 if the options are wrong."""
    console = open_console(sys.stdout, WIDTH)
    result: dict[str, Any] = circumstances() | {"real": options.real, "asr": options.asr}
    path = result_path(options.out, "turn-taking-real" if options.real else "turn-taking", result)
    try:
        baseline = None if options.compare is None else read_baseline(options.compare, KIND, result, path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE_WRONG
    try:
        result["rows"] = _measure(options, console)
    except (BadScene, UnknownEngine) as error:
        print(error, file=sys.stderr)
        return USAGE_WRONG
    show(result["rows"], console)
    write_result(result, path)
    console.print(str(path), markup=False)
    if baseline is None:
        return 0
    comparison = compare_results(baseline, result)
    print_comparison(comparison, console)
    return 1 if comparison.regressions else 0


def _measure(options: Options, console: Console) -> list[dict[str, Any]]:
    """A row for each detector, endpointing engine and scene, and one for all scenes."""
    scenes = load_scenes(options.scenes)
    sounds = gather_sounds(scenes, options.clips)
    rows: list[dict[str, Any]] = []
    for detector in options.detectors:
        for endpointing in options.endpointing:
            if options.real:
                scores = asyncio.run(real(scenes, sounds, detector, endpointing, options.asr))
            else:
                scores = {scene.name: asyncio.run(virtual(scene, sounds, detector, endpointing)) for scene in scenes}
            whole = Score()
            for one in scores.values():
                whole.add(one)
            kind = {"detector": detector, "endpointing": endpointing}
            rows += [{**kind, "scene": name, **one.figures()} for name, one in [*scores.items(), (ALL, whole)]]
            console.print(f"{detector}, {endpointing}: {len(scenes)} scenes")
    return rows


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print a line for each scene and one for all scenes, for each detector and endpointing engine."""
    headings = ("detector", "endpoint", "scene", "turns", "cut off", "missed", "false", "late", "commit ms p50", "max",
                "barge-ins", "missed", "silence ms", "noises", "ended it", "went on", "wrong resumes", "history ±words")  # fmt: skip
    table = new_table("turn-taking", *headings)
    for row in rows:
        commits, silences = row["commit_ms"], row["silence_ms"]
        table.add_row(
            *(row["detector"], row["endpointing"], row["scene"]),
            *(str(row[name]) for name in ("turns", "cut_offs", "missed_turns", "false_turns", "late_commits")),
            *((f"{np.median(commits):.0f}", f"{max(commits):.0f}") if commits else ("–", "–")),
            *(str(row[name]) for name in ("interruptions", "missed_barge_ins")),
            f"{np.median(silences):.0f}" if silences else "–",
            *(str(row[name]) for name in ("noises", "false_barge_ins", "right_resumes", "wrong_resumes")),
            " ".join(f"{off:+d}" for off in row["history_off_words"]) or "–",
            style="bold" if row["scene"] == "all" else "",
        )
    console.print(table)
