"""The command `turn-ends`: every turn with each endpointing engine, in virtual time."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks.compare import CompareWith, Comparison, Key, Kind, Rule, compare, print_regressions, read_baseline
from benchmarks.result import RESULTS, USAGE_WRONG, Out, Result, circumstances, result_path, write_result
from benchmarks.speech.speakers import NEURAL, SPEAKERS, read_lines, speaker_named
from benchmarks.tables import open_console, print_rows
from benchmarks.turn_ends.conversation import commits_of
from benchmarks.turn_ends.score import Outcome, outcome_of, summary
from benchmarks.turn_ends.turns import HUMAN, PLAIN, SpokenTurn, assign, human_turns, lines_of, read_texts, spoken_turn
from benchmarks.virtual.recognizer import VirtualRecognizer
from deploy.client.acoustics import CONDITIONS, condition_named
from deploy.client.performance import Samples
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ
from shared.settings import load_settings

BEFORE_S, AFTER_S = 1.0, 3.5
"""Silence before the first turn, and after each one: as if a reply were spoken."""
ALL, THOUGHTFUL = "all", "with thinking"
SHARE, DELAY = Rule(1.0, 2.0), Rule(1.10, 20.0)
"""Two percentage points more is a regression; so is a wait that grew by more than a tenth and by at least 20 ms."""


def samples_of(result: Result) -> dict[Key, dict[int, float]]:
    """The figures over all turns, for each detector and endpointing engine."""
    names = ("cut_percent", "late_percent", "wait_p50_ms", "wait_p95_ms")
    return {
        (f"{row['detector']}, {row['endpointing']}", name.replace("_", " ")): {0: float(row[name])}
        for row in result["rows"]
        if row["group"] == ALL
        for name in names
        if row[name] is not None
    }


KIND = Kind(
    "parley bench turn-ends", samples_of, lambda result: {"acoustics": result["acoustics"], "recogniser": result["asr"]}
)


def compare_results(before: Result, now: Result) -> Comparison:
    return compare(samples_of(before), samples_of(now), lambda key: DELAY if key[1].endswith("ms") else SHARE)


def turn_ends(
    vad: Annotated[str, typer.Option(help="Detectors, with commas.")] = "silero",
    endpointing: Annotated[str, typer.Option(help="Endpointing engines, with commas.")] = "fixed,pace,smart-turn",
    asr: Annotated[str, typer.Option(help="The recogniser whose words an engine gets.")] = "faster-whisper",
    speakers: Annotated[str, typer.Option(help=f"Of {', '.join(SPEAKERS)}; with commas.")] = ",".join(NEURAL),
    acoustics: Annotated[str, typer.Option(help=f"One of {', '.join(CONDITIONS)}.")] = "clean",
    clips: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, envvar="PARLEY_TEST_CLIPS", help="Recordings and transcripts.tsv."),
    ] = None,
    faults: Annotated[bool, typer.Option("--faults", help="List the turns that were cut or late.")] = False,
    out: Out = RESULTS,
    compare_with: CompareWith = None,
) -> None:
    """Score the ends of turns: people who think in the middle of a sentence, and people who do not.

    Exit code: 0 measured, 1 a figure regressed, 2 the options are wrong or a voice or an engine is missing.
    """
    console = open_console(sys.stdout)
    result: dict[str, Any] = circumstances() | {"acoustics": acoustics, "asr": asr, "rows": [], "turns": []}
    path = result_path(out, "turn-ends", result)
    try:
        chosen, condition = [speaker_named(name) for name in speakers.split(",")], condition_named(acoustics)
        baseline = read_baseline(compare_with, KIND, result, path)
        assigned = assign(read_texts(), chosen)
        speech = read_lines(lines_of(assigned), lambda name: console.print(f"synthesising {name}", style="dim"))
        turns = [spoken_turn(speaker, text, speech) for speaker, text in assigned]
        turns += human_turns(clips) if clips else []
        calls = [
            [turn for turn in turns if turn.speaker == name] for name in dict.fromkeys(turn.speaker for turn in turns)
        ]
        others = [turn.samples for turn in turns]
        microphones = [condition(_microphone(call), others, seed) for seed, call in enumerate(calls)]
        settings = load_settings()
        recognizer = VirtualRecognizer(asr, settings)
        for detector in vad.split(","):
            for engine in endpointing.split(","):
                commits = commits_of(microphones, detector, engine, recognizer, settings)
                outcomes = [one for call, at_s in zip(calls, commits, strict=True) for one in _outcomes(call, at_s)]
                result["rows"] += rows_of(detector, engine, outcomes)
                result["turns"] += [{"detector": detector, "endpointing": engine, **asdict(one)} for one in outcomes]
                if faults:
                    print_faults(f"{detector}, {engine}", outcomes, console)
    except (ValueError, UnknownEngine) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE_WRONG) from None
    show(result["rows"], console)
    write_result(result, path)
    console.print(str(path), markup=False)
    raise typer.Exit(int(print_regressions(compare_results, baseline, result, console)))


def _microphone(turns: Sequence[SpokenTurn]) -> Samples:
    silence = np.zeros(int(AFTER_S * RATE_HZ), np.float32)
    pieces = [np.zeros(int(BEFORE_S * RATE_HZ), np.float32)]
    for turn in turns:
        pieces += [turn.samples, silence]
    return np.concatenate(pieces)


def _outcomes(turns: Sequence[SpokenTurn], commits_s: Sequence[float]) -> list[Outcome]:
    outcomes, start_s = [], BEFORE_S
    for turn in turns:
        end_s = start_s + len(turn.samples) / RATE_HZ
        outcomes.append(outcome_of(turn.speaker, turn.kind, turn.text, start_s, end_s, end_s + AFTER_S, commits_s))
        start_s = end_s + AFTER_S
    return outcomes


def rows_of(detector: str, endpointing: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for all turns, for those with and without thinking, for people, and for each synthetic speaker."""
    spoken = [one for one in outcomes if one.kind != HUMAN]
    groups: dict[str, list[Outcome]] = {
        ALL: list(outcomes),
        THOUGHTFUL: [one for one in spoken if one.kind != PLAIN],
        PLAIN: [one for one in spoken if one.kind == PLAIN],
    }
    for one in outcomes:
        groups.setdefault(one.speaker, []).append(one)
    kind = {"detector": detector, "endpointing": endpointing}
    return [{**kind, "group": group, **summary(members)} for group, members in groups.items()]


def print_faults(title: str, outcomes: Sequence[Outcome], console: Console) -> None:
    rows = [
        {
            "speaker": one.speaker,
            "cut at": f"{one.cut_s:.2f} s" if one.cut_s is not None else "–",
            "waited": f"{one.wait_ms:.0f} ms" if one.wait_ms is not None else "–",
            "turn": one.text,
        }
        for one in outcomes
        if one.cut_s is not None or one.late
    ]
    print_rows(title, rows, console)


def show(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    def number(value: float | None, unit: str) -> str:
        return f"{value:.0f}{unit}" if value is not None else "–"

    table = [
        {
            "detector": row["detector"],
            "endpointing": row["endpointing"],
            "turns of": row["group"],
            "turns": str(row["turns"]),
            "cut in two": number(row["cut_percent"], " %"),
            "later than 1 s": number(row["late_percent"], " %"),
            "wait p50": number(row["wait_p50_ms"], " ms"),
            "p95": number(row["wait_p95_ms"], " ms"),
        }
        for row in rows
    ]
    print_rows("ends of turns", table, console)
