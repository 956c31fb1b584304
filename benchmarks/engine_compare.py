"""Whether the engines got slower or larger since a baseline. Values in, values out.

A time or a rate has regressed where its mean is worse by a fifth, or its worst repetition by 45 %: the mean of many
sessions is steady, one of them is not. Memory has regressed where it grew by 15 % and by 50 MB.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.compare import Comparison, Key, Row, compare_all, ratio

MEAN_LIMIT, WORST_LIMIT = 1.20, 1.45
MEMORY_LIMIT, MEMORY_LEAST_MB = 1.15, 50.0

Result = Mapping[str, Any]


def compare(baseline: Result, current: Result) -> Comparison:
    """Each figure of the same engine, model and batch.

    Raises:
        ValueError: they are not of one device and one size of model, or the baseline is no result of this benchmark.
    """
    check_comparable(baseline, current)
    return compare_all(dict(_figures(baseline)), dict(_figures(current)), _row)


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


def _figures(result: Result) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    for entry in result["entries"]:
        label = f"{entry['stage']} {entry['engine']} ({entry['model']}) × {entry['batch']}"
        for name, found in entry["figures"].items():
            if found["n"]:
                yield (label, name), found
        for name, size_mb in entry["memory"].items():
            yield (label, name), {"mean": size_mb, "better": "smaller"}


def _row(key: Key, before: Mapping[str, Any], now: Mapping[str, Any]) -> Row:
    kind = before["better"]
    mean = _worse(before["mean"], now["mean"], kind)
    if kind == "smaller":
        regressed = mean > MEMORY_LIMIT and now["mean"] - before["mean"] >= MEMORY_LEAST_MB
        return Row(*key, before["mean"], now["mean"], mean, regressed)
    worst = _worse(before["worst"], now["worst"], kind)
    regressed = mean > MEAN_LIMIT or worst > WORST_LIMIT
    return Row(*key, before["mean"], now["mean"], mean, regressed, f"worst × {worst:.2f}")


def _worse(before: float, now: float, kind: str) -> float:
    return ratio(now, before) if kind == "higher" else ratio(before, now)
