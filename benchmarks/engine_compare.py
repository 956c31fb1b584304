"""Whether the engines got slower or larger since a baseline. Values in, values out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MEAN_LIMIT, WORST_LIMIT = 1.20, 1.45
MEMORY_LIMIT, MEMORY_LEAST_MB = 1.15, 50.0

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure then and now. A ratio above 1 is worse, whichever way the figure goes."""

    entry: str
    figure: str
    before: float
    now: float
    mean_ratio: float
    worst_ratio: float | None
    """None: the figure is a single one."""
    regressed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that both have, and what only one of them has."""

    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.regressed)


def compare(baseline: Result, current: Result) -> Comparison:
    """Each figure of the same engine, model and batch.

    Raises:
        ValueError: they are not of one device and one size of model, or the baseline is no result of this benchmark.
    """
    check_comparable(baseline, current)
    before, now = dict(_figures(baseline)), dict(_figures(current))
    rows = [_row(*key, before[key], now[key]) for key in before if key in now]
    return Comparison(
        tuple(rows),
        tuple(f"{entry}: {name}" for entry, name in before if (entry, name) not in now),
        tuple(f"{entry}: {name}" for entry, name in now if (entry, name) not in before),
    )


def check_comparable(baseline: Result, current: Result) -> None:
    """Raises `ValueError` where a comparison would say nothing."""
    try:
        for what, then, here in (
            ("device", baseline["device"]["name"], current["device"]["name"]),
            ("size of models", baseline["size"], current["size"]),
            ("seconds of speech", baseline["seconds"], current["seconds"]),
        ):
            if then != here:
                raise ValueError(f"the baseline is of another {what}: {then!r}, and this is {here!r}")
        for _, found in _figures(baseline):
            float(found["mean"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the baseline is no result of `parley bench engines`: {error!r}") from error


def _figures(result: Result) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    for entry in result["entries"]:
        label = f"{entry['stage']} {entry['engine']} ({entry['model']}) × {entry['batch']}"
        for name, found in entry["figures"].items():
            if found["n"]:
                yield (label, name), found
        for name, size_mb in entry["memory"].items():
            yield (label, name), {"mean": size_mb, "better": "smaller"}


def _row(entry: str, name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Row:
    kind = before["better"]
    mean = _worse(before["mean"], now["mean"], kind)
    worst = None if kind == "smaller" else _worse(before["worst"], now["worst"], kind)
    if worst is None:
        regressed = mean > MEMORY_LIMIT and now["mean"] - before["mean"] >= MEMORY_LEAST_MB
    else:
        regressed = mean > MEAN_LIMIT or worst > WORST_LIMIT
    return Row(entry, name, before["mean"], now["mean"], mean, worst, regressed)


def _worse(before: float, now: float, kind: str) -> float:
    """By what factor it is worse; from nothing to something it is infinitely so."""
    low, high = (now, before) if kind == "higher" else (before, now)
    if low == high:
        return 1.0
    return high / low if low > 0 else float("inf")
