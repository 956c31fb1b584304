"""Computes the figures of an engine from the waiting times of its sessions. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.figures import summary

TOKENS_PER_S = 5.0
"""Rate that one session needs from a chat model: speech has two or three words a second, a word has up to two tokens."""

HIGHER = frozenset({"tokens_per_s", "sessions"})
"""Figures of which more is better. Of all other figures, less is better."""

STAGGERED = "staggered_"

TARGETS_MS: Mapping[tuple[int, str], float] = {
    (1, "final_ms"): 40,
    (1, "first_token_ms"): 30,
    (1, "first_audio_ms"): 40,
    (64, f"{STAGGERED}total_ms"): 300,
}
"""Highest p95 of the chain, by conversations and figure, for 5 s of speech on a GPU."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One session's use of an engine. Times are of a monotonic clock."""

    start_s: float
    end_s: float
    amount: float
    """Seconds of audio in or out, or tokens."""
    times_ms: Mapping[str, Sequence[float]]
    """Waiting times by the name of the figure."""


def busy_s(pieces: Iterable[Piece]) -> float:
    """Time during which at least one session was waiting for the engine; never 0."""
    total = 0.0
    until = float("-inf")
    for piece in sorted(pieces, key=lambda one: one.start_s):
        total += max(0.0, piece.end_s - max(piece.start_s, until))
        until = max(until, piece.end_s)
    return max(total, 1e-9)


def rate(pieces: Sequence[Piece]) -> float:
    """Seconds of audio, or tokens, for each second that the engine was busy."""
    return sum(piece.amount for piece in pieces) / busy_s(pieces)


def figure(repetitions: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Count, percentiles, maximum and mean over all repetitions, and the mean of each."""
    values = [value for repetition in repetitions for value in repetition]
    found: dict[str, Any] = summary(values)
    if values:
        found |= {"mean": fmean(values), "repeats": [fmean(one) for one in repetitions if one]}
    return found


def figures(stage: str, together: Sequence[Sequence[Piece]], staggered: Sequence[Sequence[Piece]]) -> dict[str, Any]:
    """All figures of an engine. The sessions of a repetition begin at once in `together`, within a second in `staggered`.

    The figure `sessions` is the number of sessions that the engine can serve in real time if they arrive as in `staggered`.
    Small batches use an engine badly, so for them the figure is a lower bound.
    """
    values = _times(together)
    if stage == "chain":
        values |= {STAGGERED + name: times for name, times in _times(staggered).items() if name == "total_ms"}
    elif stage == "llm":
        values["tokens_per_s"] = [[rate(pieces)] for pieces in together]
        values["sessions"] = [[rate(pieces) / TOKENS_PER_S] for pieces in staggered]
    else:
        values["rtf"] = [[1 / max(rate(pieces), 1e-9)] for pieces in together]
        values["sessions"] = [[rate(pieces)] for pieces in staggered]
    return {name: figure(found) for name, found in values.items()}


def _times(repetitions: Sequence[Sequence[Piece]]) -> dict[str, list[list[float]]]:
    """Waiting times in ms of each repetition, by figure."""
    names = dict.fromkeys(name for pieces in repetitions for piece in pieces for name in piece.times_ms)
    return {
        name: [[ms for piece in pieces for ms in piece.times_ms.get(name, ())] for pieces in repetitions]
        for name in names
    }


def verdicts(entry: Mapping[str, Any]) -> dict[str, bool]:
    """Whether an entry of the chain meets its targets, by figure."""
    met = {}
    for (batch, name), target_ms in TARGETS_MS.items():
        found = entry["figures"].get(name, {})
        if entry["stage"] == "chain" and entry["batch"] == batch and "p95" in found:
            met[name] = found["p95"] <= target_ms
    return met
