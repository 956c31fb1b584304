"""The engines' figures as samples for the comparison, and their rules."""

from collections.abc import Mapping
from typing import Any

from benchmarks.compare import Comparison, Key, Kind, Rule, compare
from benchmarks.engines.figures import HIGHER
from benchmarks.result import Result

TIME, RATE, MEMORY = Rule(1.20), Rule(1.20, more_is_better=True), Rule(1.15, 50.0)
"""Least: MB."""


def samples_of(result: Result) -> dict[Key, dict[int, float]]:
    """Every figure of each engine, model and batch: its mean in each repetition. Memory is read once."""
    found: dict[Key, dict[int, float]] = {}
    for entry in result["entries"]:
        label = f"{entry['stage']} {entry['engine']} ({entry['model']}) × {entry['batch']}"
        for name, figure in entry["figures"].items():
            if figure["n"]:
                found[label, name] = {repeat: float(mean) for repeat, mean in enumerate(figure["repeats"])}
        found |= {(label, name): {0: float(size_mb)} for name, size_mb in entry["memory"].items()}
    return found


def _same(result: Result) -> Mapping[str, Any]:
    return {
        "device": result["device"]["name"],
        "size of models": result["size"],
        "length of speech, s": result["seconds"],
    }


KIND = Kind("parley bench engines", samples_of, _same)


def compare_results(before: Result, now: Result) -> Comparison:
    """Compare each figure of the same engine, model and batch."""
    return compare(samples_of(before), samples_of(now), _rule_of)


def _rule_of(key: Key) -> Rule:
    _, figure = key
    if figure.endswith("_mb"):
        return MEMORY
    return RATE if figure in HIGHER else TIME
