"""Draws the figures of the engines: what is waited for, over the sessions at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.engine_report import COLUMNS, RANDOM


def draw(result: Mapping[str, Any], path: Path) -> None:
    """A PNG; p50 as lines, to the p95 as shades. Nothing where there are no figures.

    Raises:
        ImportError: matplotlib is not there.
    """
    import matplotlib as mpl

    mpl.use("agg")  # before pyplot: there may be no screen
    from matplotlib import pyplot as plt

    entries = [entry for entry in result["entries"] if entry["figures"]]
    stages = [stage for stage in COLUMNS if any(entry["stage"] == stage for entry in entries)]
    if not stages:
        return
    figure, all_axes = plt.subplots(1, len(stages), figsize=(5 * len(stages), 4), layout="constrained", squeeze=False)
    for axes, stage in zip(all_axes[0], stages, strict=True):
        mine = [entry for entry in entries if entry["stage"] == stage]
        for name, title in COLUMNS[stage]:
            points = [
                (entry["batch"], entry["figures"][name]) for entry in mine if entry["figures"].get(name, {}).get("n")
            ]
            if name.endswith("_ms") and points:
                batches = [batch for batch, _ in points]
                p50, p95 = ([found[part] for _, found in points] for part in ("p50", "p95"))
                (line,) = axes.plot(batches, p50, "o-", label=title.removesuffix(", ms"))
                axes.fill_between(batches, p50, p95, color=line.get_color(), alpha=0.2)
        batches = sorted({entry["batch"] for entry in mine})
        axes.set_title(f"{stage}: {mine[0]['engine']}\n{mine[0]['model']}", fontsize=8)
        axes.set_xlabel("sessions at once")
        axes.set_ylabel("ms, p50 to p95")
        axes.set_xscale("log")
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend(fontsize=8)
    note = f", {RANDOM}" if any(entry["random"] for entry in entries) else ""
    device = result["device"]
    figure.suptitle(
        f"{device['name']}, {device['dtype'] or 'no torch'}, {result['date'][:10]}, commit {result['commit']}{note}",
        fontsize=9,
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)
