"""Scores the ends of turns: which were cut in two, and how long the others had to wait. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LATE_MS = 1000.0
"""A turn that is committed later than this after its end is late; so is one that is not committed before the next one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one turn ended."""

    speaker: str
    kind: str
    text: str
    cut_s: float | None
    """Time into the turn at which it was committed, before its end; None: it was not cut."""
    wait_ms: float | None
    """Time from the end of the turn to its commit; None without a commit."""

    @property
    def late(self) -> bool:
        return self.wait_ms is None or self.wait_ms > LATE_MS


def outcome_of(
    speaker: str, kind: str, text: str, start_s: float, end_s: float, next_s: float, commits_s: Sequence[float]
) -> Outcome:
    """Score the turn that lasts from `start_s` to `end_s`; the next one begins at `next_s`."""
    cut_s = next((at_s - start_s for at_s in commits_s if start_s < at_s < end_s), None)
    wait_ms = next((1000 * (at_s - end_s) for at_s in commits_s if end_s <= at_s < next_s), None)
    return Outcome(speaker, kind, text, cut_s, wait_ms)


def summary(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Shares in percent, and the waits that were not missing, in ms."""
    waits = [outcome.wait_ms for outcome in outcomes if outcome.wait_ms is not None]
    return {
        "turns": len(outcomes),
        "cut_percent": 100 * sum(outcome.cut_s is not None for outcome in outcomes) / max(1, len(outcomes)),
        "late_percent": 100 * sum(outcome.late for outcome in outcomes) / max(1, len(outcomes)),
        "wait_p50_ms": float(np.percentile(waits, 50)) if waits else None,
        "wait_p95_ms": float(np.percentile(waits, 95)) if waits else None,
    }
