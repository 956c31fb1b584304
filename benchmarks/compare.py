"""The one comparison of two results: which figures got worse beyond the noise.

A benchmark gives its figures as samples, a value for each repeat, and a rule for each figure. A figure has regressed if all
of this holds:

- the ratio of the medians, now to before, exceeds the rule's limit;
- the low end of the ratio's spread exceeds 1: the worse of the earlier repeats is still better than the better of the later
  ones or, for repeats that ran in turn, each pair got worse;
- it changed by at least the rule's `least`, so that the resolution of a clock is not a regression.

The spread covers all repeats. With eight repeats or more, one eighth is left out at either end, so that a single disturbed
repeat cannot decide. A single repeat has no spread: only the limit decides, and the table says so. By noise alone, all of n
pairs get worse with a probability of 1 in 2^n: two pairs say little about twenty figures, six say much.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.result import Result, read_result
from benchmarks.tables import new_table

OUTER = 8
"""One in eight repeats is left out at either end."""

CompareWith = Annotated[
    Path | None,
    typer.Option("--compare", exists=True, dir_okay=False, help="Fail where a figure is worse than in this result."),
]
Key = tuple[str, str]
"""What was measured, and which figure of it."""
Samples = Mapping[Key, Mapping[int, float]]
"""Values by repeat. A repeat without the figure is missing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Limits of a figure. Beyond them it has regressed, if the spread agrees."""

    limit: float
    """Largest allowed ratio; above 1 is worse, whether more or less of the figure is better."""
    least: float = 0.0
    """Smallest change that counts, in the figure's own unit."""
    more_is_better: bool = False
    never: bool = False
    """A count that must be 0: any other value is a regression if the baseline has 0."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure before and now: medians, and the ratio with its spread."""

    key: Key
    before: float
    now: float
    ratio: float
    low: float
    high: float
    repeats: str
    """Where the spread comes from."""
    regressed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures that both results have, and the names of those that only one has."""

    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.regressed)


@dataclass(frozen=True, slots=True)
class Kind:
    """How to compare the results of one benchmark."""

    command: str
    samples: Callable[[Result], Samples]
    """Raises KeyError, TypeError, AttributeError or ZeroDivisionError for another layout."""
    same: Callable[[Result], Mapping[str, object]]
    """Circumstances that must be equal for a valid comparison, by their names in messages. Raises as `samples`."""


def read_baseline(path: Path | None, kind: Kind, here: Result, out: Path) -> Result | None:
    """Read the result to compare with; None without a path.

    `here`: the circumstances of the result that is about to be measured. `out`: where that will be written.

    Raises:
        ValueError: it is not a result of this benchmark, not comparable, or would be overwritten. The message names the file.
    """
    if path is None:
        return None
    try:
        if out.resolve() == path.resolve():
            raise ValueError("this run would overwrite it: name another place for the result")
        baseline = read_result(path)
        try:
            then, empty = kind.same(baseline), not kind.samples(baseline)
            if not (isinstance(baseline["commit"], str) and isinstance(baseline["date"], str)):
                raise TypeError("commit and date")
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"not a result of `{kind.command}`, or one in an older layout: {error!r}") from error
        for what, value in kind.same(here).items():
            if then.get(what, value) != value:
                raise ValueError(f"not comparable: its {what} is {then[what]!r}, here it is {value!r}")
        if empty:
            raise ValueError(f"it contains no figures of `{kind.command}`")
    except ValueError as error:
        raise ValueError(f"--compare {path}: {error}") from error
    return baseline


def compare(before: Samples, now: Samples, rule_of: Callable[[Key], Rule], *, in_turn: bool = False) -> Comparison:
    """Compare each figure that both have.

    `in_turn`: each repeat ran next to the other result's repeat of the same number, so a slow hour of the machine cancels out.
    """
    return Comparison(
        tuple(_judge(key, before[key], now[key], rule_of(key), in_turn=in_turn) for key in before if key in now),
        tuple(": ".join(key) for key in before if key not in now),
        tuple(": ".join(key) for key in now if key not in before),
    )


def ratio(before: float, now: float) -> float:
    """The factor by which it grew; infinite from nothing to something."""
    if before == now:
        return 1.0
    return now / before if before > 0 else float("inf")


def _judge(key: Key, before: Mapping[int, float], now: Mapping[int, float], rule: Rule, *, in_turn: bool) -> Row:
    middle = float(np.median([*before.values()])), float(np.median([*now.values()]))
    if rule.never and not any(before.values()):
        total = sum(now.values())
        factor = ratio(0.0, total)
        return Row(key, 0.0, total, factor, factor, factor, "in all repeats", regressed=total > 0)
    worse, better = (now, before) if not rule.more_is_better else (before, now)
    both = sorted(before.keys() & now.keys()) if in_turn and not rule.never else []
    if both:
        ratios = [ratio(better[repeat], worse[repeat]) for repeat in both]
        grown, (low, high) = float(np.median(ratios)), _ends(ratios)
        repeats = f"{len(both)} pairs" if len(both) > 1 else "one pair: no spread"
    else:
        grown = ratio(*(middle if not rule.more_is_better else middle[::-1]))
        (least_then, most_then), (least_now, most_now) = _ends([*better.values()]), _ends([*worse.values()])
        low, high = ratio(most_then, least_now), ratio(least_then, most_now)
        several = len(before) + len(now) > 2
        repeats = f"{len(before)} and {len(now)} repeats" if several else "one repeat each: no spread"
    regressed = grown > rule.limit and low > 1 and abs(middle[1] - middle[0]) >= rule.least
    return Row(key, *middle, grown, low, high, repeats, regressed)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = len(ordered) // OUTER
    return ordered[cut], ordered[-1 - cut]


def print_regressions(
    compare_results: Callable[[Result, Result], Comparison], baseline: Result | None, now: Result, console: Console
) -> bool:
    """Compare with the baseline, if there is one, and print it. Returns whether a figure regressed."""
    if baseline is None:
        return False
    comparison = compare_results(baseline, now)
    print_comparison(comparison, console)
    return bool(comparison.regressions)


def print_comparison(comparison: Comparison, console: Console, before: str = "the baseline") -> None:
    """Print every figure beside its baseline, regressions in red, what cannot be compared, and the verdict."""
    headings = ("", "figure", "before", "now", "ratio", "spread", "from", "")
    table = new_table(f"\nagainst {before} (a ratio above 1 is worse)", *headings)
    for row in comparison.rows:
        spread = f"{row.low:.2f}–{row.high:.2f}"
        cells = (*row.key, f"{row.before:.4g}", f"{row.now:.4g}", f"{row.ratio:.2f}", spread, row.repeats)
        table.add_row(*cells, "regression" if row.regressed else "", style="red" if row.regressed else None)
    console.print(table)
    for what, names in (("not in this run", comparison.missing), ("not in the baseline", comparison.new)):
        for name in names:
            console.print(f"{what}: {name}", markup=False)
    regressions = comparison.regressions
    verdict = f"{len(regressions)} regressed" if regressions else "no regression"
    console.print(f"{verdict} of {len(comparison.rows)} figures", style="red" if regressions else "green")
    for row in regressions:
        console.print(f"  {': '.join(row.key)} × {row.ratio:.2f}", style="red", markup=False)
