"""Shows the figures of the pipeline in tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.figures import BARGE_TARGET_MS, CALLERS, HARM, TARGETS
from benchmarks.tables import new_table


def print_report(result: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"{result['date']}  commit {result['commit']}  {result['cores']} cores of {result['cpu']}  {result['system']}\n"
        f"Python {result['python']}, {result['broker']}; callers and all processes on this machine; "
        f"endpoint {result['endpoint_ms']} ms, taken off the overhead",
        markup=False,
    )
    for table in (_latency(result["figures"]), _cost(result["figures"]), _memory(result["figures"])):
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


def _judged(value: float, target: float | None, digits: int) -> str:
    shown = f"{value:.{digits}f}"
    if target is None:
        return shown
    return f"[green]{shown} ≤ {target:g}[/]" if value <= target else f"[red]{shown} > {target:g}[/]"
