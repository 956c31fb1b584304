"""Whether figures got worse since a baseline: the rows, the rule that allows for noise, and their table.

The rule for figures that were measured several times. A figure has regressed where all of this holds:

- the ratio of now to before is above the figure's limit;
- so is the low end of the ratio's spread above 1: the worse of the earlier repeats is still better than the better
  of the later ones, or, where both were measured in turn, each pair got worse;
- it grew by at least the figure's least, so that the grain of a clock is no regression.

The spread is that of all repeats; from eight on the outermost eighth at either end is left out, so that one disturbed
repeat decides nothing. A single repeat has no spread: then the limit alone decides, and the table says so. Noise alone
makes all of n pairs worse once in 2^n: two pairs say little of twenty figures, six say much.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console

from benchmarks.report import new_table

OUTER = 8
"""One in so many repeats is left out at either end."""

Key = tuple[str, str]
"""What was measured, and which figure of it."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure then and now. A ratio above 1 is worse, whichever way the figure goes."""

    entry: str
    figure: str
    before: float
    now: float
    ratio: float
    regressed: bool
    note: str = ""
    """What else the verdict rests on."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that both have, and what only one of them has."""

    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.regressed)


def compare_all(
    before: Mapping[Key, Value], now: Mapping[Key, Value], judge: Callable[[Key, Value, Value], Row]
) -> Comparison:
    """Each figure that both have, judged; the others by name."""
    return Comparison(
        tuple(judge(key, before[key], now[key]) for key in before if key in now),
        tuple(f"{entry}: {figure}" for entry, figure in before if (entry, figure) not in now),
        tuple(f"{entry}: {figure}" for entry, figure in now if (entry, figure) not in before),
    )


def ratio(before: float, now: float) -> float:
    """By what factor it grew; from nothing to something infinitely."""
    if before == now:
        return 1.0
    return now / before if before > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Rule:
    """When a figure has regressed, beside the spread."""

    limit: float
    least: float = 0.0
    """In the figure's own unit."""


@dataclass(frozen=True, slots=True)
class Change:
    """Medians of the repeats, their ratio, and the spread of that."""

    before: float
    now: float
    ratio: float
    low: float
    high: float
    told: str
    """What the spread comes from."""

    def breaks(self, rule: Rule) -> bool:
        """Whether this is a regression."""
        return self.ratio > rule.limit and self.low > 1 and self.now - self.before >= rule.least

    def row(self, key: Key, rule: Rule) -> Row:
        """The verdict, with its spread beside it."""
        note = f"{self.low:.2f}–{self.high:.2f} {self.told}"
        return Row(*key, self.before, self.now, self.ratio, self.breaks(rule), note)


def apart(before: Sequence[float], now: Sequence[float]) -> Change:
    """Repeats that were measured at different times: any of these against any of those."""
    (low_then, high_then), (low_now, high_now) = _ends(before), _ends(now)
    middle_then, middle_now = float(np.median(before)), float(np.median(now))
    told = f"{len(before)} and {len(now)} repeats" if len(before) + len(now) > 2 else "one repeat each: no spread"
    change = ratio(middle_then, middle_now)
    return Change(middle_then, middle_now, change, ratio(high_then, low_now), ratio(low_then, high_now), told)


def paired(before: Sequence[float], now: Sequence[float]) -> Change:
    """Repeats that were measured in turn: each against its neighbour, so that a slow hour cancels out."""
    ratios = [ratio(*pair) for pair in zip(before, now, strict=True)]
    told = "one pair: no spread" if len(ratios) == 1 else f"{len(ratios)} pairs"
    low, high = _ends(ratios)
    return Change(float(np.median(before)), float(np.median(now)), float(np.median(ratios)), low, high, told)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = len(ordered) // OUTER
    return ordered[cut], ordered[-1 - cut]


def read_result(path: Path) -> Mapping[str, Any]:
    """A result's file.

    Raises:
        ValueError: it cannot be read, or is no JSON object; the message says what is wrong, not the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror) from error
    if not data.strip():
        raise ValueError("it is empty")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON, or cut off: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"no result of a benchmark, but a JSON {type(found).__name__}")  # noqa: TRY004  it is data
    return found


def print_comparison(comparison: Comparison, console: Console, against: str = "the baseline") -> None:
    """Every figure beside its baseline, the regressions in red, what cannot be compared, and the verdict."""
    headings = ("", "figure", "before", "now", "ratio", "spread and more", "")
    table = new_table(f"\nagainst {against} (a ratio above 1 is worse)", *headings)
    for row in comparison.rows:
        cells = (row.entry, row.figure, f"{row.before:.4g}", f"{row.now:.4g}", f"{row.ratio:.2f}", row.note)
        table.add_row(*cells, "regression" if row.regressed else "", style="red" if row.regressed else None)
    console.print(table)
    for what, names in (("not in this run", comparison.missing), ("not in the baseline", comparison.new)):
        for name in names:
            console.print(f"{what}: {name}", markup=False)
    regressions = comparison.regressions
    told = f"{len(regressions)} regressed" if regressions else "no regression"
    console.print(f"{told} of {len(comparison.rows)} figures", style="red" if regressions else "green")
    for row in regressions:
        console.print(f"  {row.entry}: {row.figure} × {row.ratio:.2f}", style="red", markup=False)
