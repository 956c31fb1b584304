"""Shows the figures of the pipeline in tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from benchmarks.pipeline.figures import BARGE_TARGET_MS, CALLERS, HARM, TARGETS
from benchmarks.tables import print_rows


def print_report(result: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"{result['date']}  commit {result['commit']}  {result['cores']} cores of {result['cpu']}  {result['system']}\n"
        f"Python {result['python']}, {result['broker']}; callers and all processes on this machine; "
        f"endpoint {result['endpoint_ms']} ms, taken off the overhead",
        markup=False,
    )
    for title, row_of in _TABLES.items():
        print_rows(title, [row_of(figures) for figures in result["figures"]], console)
    for figures in result["figures"]:
        harm = [f"{figures['counts'].get(name, 0)} {name.replace('_', ' ')}" for name in HARM]
        console.print(
            f"{figures['sessions']:>4} sessions: {figures['counts'].get('turns', 0)} turns, {', '.join(harm)}"
        )
        for error, times in figures["errors"].items():
            console.print(f"     {times} × {error}", style="red", markup=False)


def _latency(row: Mapping[str, Any]) -> dict[str, str]:
    overhead, barge, target = row["overhead_ms"], row["barge_ms"], TARGETS.get(row["sessions"])
    cells = {"sessions": str(row["sessions"])}
    if overhead["n"]:
        cells |= {
            "p50": _judged(overhead["p50"], target.p50_ms if target else None, 1),
            "p95": f"{overhead['p95']:.1f}",
            "p99": _judged(overhead["p99"], target.p99_ms if target else None, 1),
            "max": f"{overhead['max']:.1f}",
        }
        cells |= {
            f"{name} of repeats": "–".join(f"{end:.1f}" for end in row["spread_ms"][name]) for name in ("p50", "p99")
        }
    if barge["n"]:
        cells |= {"barge-in p50": _judged(barge["p50"], BARGE_TARGET_MS, 0), "barge-in p95": f"{barge['p95']:.0f}"}
    return cells | {"(callers late)": f"{row['callers_late_ms']:.1f}"}


def _cost(row: Mapping[str, Any]) -> dict[str, str]:
    target, shares = TARGETS.get(row["sessions"]), {name: f"{share:.3f}" for name, share in row["cpu_percent"].items()}
    callers = shares.pop(CALLERS)
    return {
        "sessions": str(row["sessions"]),
        "all": _judged(row["cpu_percent_total"], target.cpu_percent if target else None, 2),
        **shares,
        f"({CALLERS})": callers,
        "(others, in all)": f"{row['disturbance_percent']:.0f}",
    }


def _memory(row: Mapping[str, Any]) -> dict[str, str]:
    idle, grown = row["mib_idle"], row["mib_per_session"]
    cells = {name: f"{grown[name]:.2f} ({idle[name]:.0f})" for name in idle}
    return {"sessions": str(row["sessions"]), "all": f"{sum(grown.values()):.2f} ({sum(idle.values()):.0f})", **cells}


def _judged(value: float, target: float | None, digits: int) -> str:
    shown = f"{value:.{digits}f}"
    if target is None:
        return shown
    return f"[green]{shown} ≤ {target:g}[/]" if value <= target else f"[red]{shown} > {target:g}[/]"


_TABLES = {
    "overhead and barge-in, ms": _latency,
    "CPU per session, % of one core": _cost,
    "memory per session, MiB (what a process holds with no session in brackets)": _memory,
}
