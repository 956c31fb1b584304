"""Shows the figures of the pipeline: tables for the terminal, a plot for a page."""

from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from benchmarks.figures import BARGE_TARGET_MS, CALLERS, PEERS, TARGETS

HARM = ("lost_samples", "doubled_samples", "late_samples", "unanswered", "unexpected_replies", "not_interrupted")
"""Counts that are to be 0."""

WIDTH = 140
"""Of what goes into a file or a pipe."""


def open_console(file: TextIO, width: int = WIDTH) -> Console:
    """Writes to a terminal as wide as it is, and to anything else wide enough for the tables."""
    return Console(file=file, highlight=False, width=None if file.isatty() else width)


def new_table(title: str, *headings: str) -> Table:
    """Without lines, numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def print_report(result: dict[str, Any], console: Console) -> None:
    """Everything that a person wants to see after a run."""
    console.print(
        f"{result['date']}  commit {result['commit']}  {result['cores']} cores of {result['cpu']}  {result['system']}\n"
        f"Python {result['python']}, {result['broker']}; callers and all processes on this machine; "
        f"endpoint {result['endpoint_ms']} ms, taken off the overhead",
        markup=False,
    )
    for table in (_latency(result["figures"]), _cost(result["figures"]), _memory(result["figures"]), _peers()):
        console.print(table)
    for figures in result["figures"]:
        harm = [f"{figures['counts'].get(name, 0)} {name.replace('_', ' ')}" for name in HARM]
        console.print(
            f"{figures['sessions']:>4} sessions: {figures['counts'].get('turns', 0)} turns, {', '.join(harm)}"
        )
        for error, times in figures["errors"].items():
            console.print(f"     {times} × {error}", style="red", markup=False)


def _latency(rows: list[dict[str, Any]]) -> Table:
    headings = (
        "sessions",
        "p50",
        "p95",
        "p99",
        "max",
        "p50 of repeats",
        "p99 of repeats",
        "barge-in p50",
        "p95",
        "(callers late)",
    )
    table = new_table("\noverhead and barge-in, ms", *headings)
    for row in rows:
        overhead, barge, target = row["overhead_ms"], row["barge_ms"], TARGETS.get(row["sessions"])
        if not overhead["n"]:
            table.add_row(str(row["sessions"]), *("–" for _ in headings[1:]))
            continue
        table.add_row(
            str(row["sessions"]),
            _judged(overhead["p50"], target.p50_ms if target else None, 1),
            f"{overhead['p95']:.1f}",
            _judged(overhead["p99"], target.p99_ms if target else None, 1),
            f"{overhead['max']:.1f}",
            *("–".join(f"{end:.1f}" for end in row["spread_ms"][name]) for name in ("p50", "p99")),
            _judged(barge["p50"], BARGE_TARGET_MS, 0) if barge["n"] else "–",
            f"{barge['p95']:.0f}" if barge["n"] else "–",
            f"{row['callers_late_ms']:.1f}",
        )
    return table


def _cost(rows: list[dict[str, Any]]) -> Table:
    names = [name for name in rows[0]["cpu_percent"] if name != CALLERS]
    table = new_table("\nCPU per session, % of one core", "sessions", "all", *names, "(callers)", "(others, in all)")
    for row in rows:
        target = TARGETS.get(row["sessions"])
        shares = [f"{row['cpu_percent'][name]:.3f}" for name in (*names, CALLERS)]
        total = _judged(row["cpu_percent_total"], target.cpu_percent if target else None, 2)
        table.add_row(str(row["sessions"]), total, *shares, f"{row['disturbance_percent']:.0f}")
    return table


def _memory(rows: list[dict[str, Any]]) -> Table:
    names = list(rows[0]["mib_idle"])
    table = new_table(
        "\nmemory per session, MiB (what a process holds with no session in brackets)", "sessions", "all", *names
    )
    for row in rows:
        idle, grown = row["mib_idle"], row["mib_per_session"]
        cells = [f"{grown[name]:.2f} ({idle[name]:.0f})" for name in names]
        table.add_row(str(row["sessions"]), f"{sum(grown.values()):.2f} ({sum(idle.values()):.0f})", *cells)
    return table


def _peers() -> Table:
    table = new_table("\nothers, measured alike", "", "CPU %", "p99 safe to", "saturated at", "p50 ms", "barge-in ms")
    for peer in PEERS:
        ranges = (peer.cpu_percent, peer.safe_sessions, peer.p50_ms)
        cpu, safe, p50 = ("–".join(f"{end:g}" for end in pair) for pair in ranges)
        table.add_row(peer.name, cpu, safe, peer.saturated, p50, f"{peer.barge_ms:g}")
    return table


def _judged(value: float, target: float | None, digits: int) -> str:
    shown = f"{value:.{digits}f}"
    if target is None:
        return shown
    return f"[green]{shown} ≤ {target:g}[/]" if value <= target else f"[red]{shown} > {target:g}[/]"


def draw(result: dict[str, Any], path: Path) -> None:
    """Overhead, barge-in and CPU over the number of sessions, with the peers' published figures.

    Raises:
        ImportError: matplotlib is not there.
    """
    import matplotlib as mpl

    mpl.use("agg")  # before pyplot: there may be no screen
    from matplotlib import pyplot as plt

    rows = [row for row in result["figures"] if row["overhead_ms"]["n"]]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    sessions = [row["sessions"] for row in rows]
    for name, style in (("p50", "o-"), ("p95", "s--"), ("p99", "^:")):
        left.plot(sessions, [row["overhead_ms"][name] for row in rows], style, color="tab:blue", label=f"Parley {name}")
    barged = [row for row in rows if row["barge_ms"]["n"]]
    for name, style in (("p50", "o-"), ("p95", "s--")):
        values = [row["barge_ms"][name] for row in barged]
        middle.plot([row["sessions"] for row in barged], values, style, color="tab:blue", label=f"Parley {name}")
    right.plot(
        sessions, [row["cpu_percent_total"] for row in rows], "o-", color="tab:blue", label="Parley, all processes"
    )
    for peer, color in zip(PEERS, ("tab:orange", "tab:green"), strict=True):
        reach = (1, peer.safe_sessions[1])
        left.fill_between(reach, *peer.p50_ms, color=color, alpha=0.25, label=f"{peer.name} p50")
        middle.hlines(peer.barge_ms, *reach, color=color, label=peer.name)
        right.fill_between(reach, *peer.cpu_percent, color=color, alpha=0.25, label=peer.name)
    _finish(left, "overhead: end of speech to first audio, less endpoint", "ms")
    _finish(middle, "barge-in: onset of speech to interrupt", "ms")
    _finish(right, "CPU per session", "% of one core")
    figure.suptitle(
        f"{result['cores']} cores of {result['cpu']}, {result['date'][:10]}, commit {result['commit']}", fontsize=9
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _finish(axes: Any, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("sessions")
    axes.set_ylabel(unit)
    axes.set_xscale("log")
    axes.set_xticks([1, 10, 50, 100], ["1", "10", "50", "100"])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
