"""The command `turn-taking`: all scenes with each detector and each endpointing engine."""

import asyncio
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks.compare import CompareWith, Comparison, Key, Kind, Rule, compare, print_regressions, read_baseline
from benchmarks.result import HERE, RESULTS, USAGE_WRONG, Out, Result, circumstances, result_path, write_result
from benchmarks.speech.speakers import NEURAL, SPEAKERS, Speaker, read_lines, speaker_named
from benchmarks.tables import new_table, open_console
from benchmarks.turn_taking.listeners import listeners
from benchmarks.turn_taking.real import real_scores
from benchmarks.turn_taking.score import Score
from benchmarks.turn_taking.virtual import virtual_scores
from benchmarks.virtual.recognizer import VirtualRecognizer
from deploy.client.performance import Samples, gather_sounds
from deploy.client.scene import Cue, Scene, load_scenes
from shared.engines.registry import UnknownEngine
from shared.settings import load_settings

ALL = "all"
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


KIND = Kind(
    "parley bench turn-taking",
    samples_of,
    lambda result: {
        "way of measuring (--real)": result["real"],
        "recogniser": result["asr"],
        "speakers": result["speakers"],
    },
)


def compare_results(before: Result, now: Result) -> Comparison:
    return compare(samples_of(before), samples_of(now), lambda key: DELAY if key[1].endswith("ms") else FAULT)


def turn_taking(
    scenes: Annotated[Path, typer.Option(exists=True, help="A .scene, or a folder of them.")] = HERE / "scenes",
    clips: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the recordings that scenes name.")
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="Use a whole system in real time; takes minutes.")] = False,
    listening: Annotated[
        bool, typer.Option("--listeners", help="Also 40 murmurs and 40 short interruptions into replies.")
    ] = False,
    speakers: Annotated[str, typer.Option(help=f"Who speaks, in turn; of {', '.join(SPEAKERS)}.")] = ",".join(NEURAL),
    vad: Annotated[str, typer.Option(help="Detectors, with commas.")] = "webrtc,silero",
    endpointing: Annotated[str, typer.Option(help="Endpointing engines, with commas.")] = "fixed,pace",
    asr: Annotated[str, typer.Option(help="The recogniser.")] = "sphinx",
    out: Out = RESULTS,
    compare_with: CompareWith = None,
) -> None:
    """Score turn-taking in scripted conversations: in virtual time, or through the whole system in real time.

    Exit code: 0 measured, 1 a figure regressed, 2 the options are wrong or a voice or an engine is missing.
    """
    console = open_console(sys.stdout, WIDTH)
    result: dict[str, Any] = circumstances() | {"real": real, "asr": asr, "speakers": speakers, "rows": []}
    path = result_path(out, "turn-taking-real" if real else "turn-taking", result)
    try:
        baseline = read_baseline(compare_with, KIND, result, path)
        people = [speaker_named(name) for name in speakers.split(",")]
        performed = list(zip(load_scenes(scenes), itertools.cycle(people), strict=False))
        performed += listeners(people) if listening else []
        sounds = {scene.name: _sounds(scene, speaker, clips) for scene, speaker in performed}
        settings = load_settings()
        recognizer = VirtualRecognizer(asr, settings)
        for detector, engine in product(vad.split(","), endpointing.split(",")):
            played = [scene for scene, _ in performed]
            if real:
                scores = asyncio.run(real_scores(played, sounds, detector, engine, asr))
            else:
                scores = virtual_scores(played, sounds, detector, engine, recognizer, settings)
            result["rows"] += _rows(detector, engine, scores)
            console.print(f"{detector}, {engine}: {len(performed)} scenes")
    except (ValueError, UnknownEngine) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE_WRONG) from None
    show(result["rows"], console)
    write_result(result, path)
    console.print(str(path), markup=False)
    raise typer.Exit(int(print_regressions(compare_results, baseline, result, console)))


def _sounds(scene: Scene, speaker: Speaker, clips: Path | None) -> dict[Cue, Samples]:
    def speak(texts: Sequence[str]) -> dict[str, Samples]:
        return {text: samples for (_, text), samples in read_lines((speaker, text) for text in texts).items()}

    return gather_sounds([scene], clips, speak)


def _rows(detector: str, endpointing: str, scores: Mapping[str, Score]) -> list[dict[str, Any]]:
    """A row for each scene, and one for all scenes."""
    whole = Score()
    for one in scores.values():
        whole.add(one)
    kind = {"detector": detector, "endpointing": endpointing}
    return [{**kind, "scene": name, **asdict(one)} for name, one in [*scores.items(), (ALL, whole)]]


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
