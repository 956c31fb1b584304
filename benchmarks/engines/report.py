"""Shows the figures of the engines in tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from benchmarks.engines.figures import TARGETS_MS, TOKENS_PER_S, verdicts
from benchmarks.tables import print_rows

RANDOM = "random weights: speed only"

NOTES: Mapping[str, str] = {
    "asr": "Final: from the last audio to the transcript. Rtf: real-time factor. Sessions: served in real time.",
    "llm": f"Sessions: served with {TOKENS_PER_S:g} tokens a second for each. A delta counts as one token.",
    "tts": "First audio of a clause of 5 and of a sentence of 15 words. Rtf: real-time factor.",
    "chain": "All conversations ask at once; staggered: at random within a second. Clause: from the first token to its end.",
}
"""What the columns mean, by stage."""


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the result. Times are p50 / p95 / p99, other figures are means."""
    device = result["device"]
    versions = f"torch {device['torch']}, {device['dtype']}" if device["torch"] else "no torch"
    console.print(
        f"{result['date']}  commit {result['commit']}  {device['name']} ({device['kind']}), {versions}, "
        f"{result['cores']} cores; {result['seconds']:g} s of speech; ms: p50 / p95 / p99",
        markup=False,
    )
    for stage, note in NOTES.items():
        if mine := [entry for entry in result["entries"] if entry["stage"] == stage and entry["figures"]]:
            _print_table(stage, mine, console, on_gpu=device["kind"] == "cuda")
            console.print(note, style="dim", markup=False)
    for entry in result["entries"]:
        if entry["error"]:
            console.print(
                f"✗ {entry['stage']} {entry['engine']} × {entry['batch']}: {entry['error']}", style="red", markup=False
            )
    for name, table in result["profiles"].items():
        console.print(f"\n{name}: where the time goes\n{table}", markup=False, soft_wrap=True)


def _print_table(stage: str, entries: Sequence[Mapping[str, Any]], console: Console, *, on_gpu: bool) -> None:
    random = f" ({RANDOM})" if any(entry["random"] for entry in entries) else ""
    rows = []
    for entry in entries:
        met = verdicts(entry) if on_gpu else {}
        cells = {name: _cell(entry, name, met.get(name)) for name, found in entry["figures"].items() if found["n"]}
        sizes = {name: f"{size:.0f}" for name, size in entry["memory"].items()}
        rows.append({"batch": str(entry["batch"])} | {_heading(name): cell for name, cell in (cells | sizes).items()})
    print_rows(f"{stage}: {entries[0]['engine']}, {entries[0]['model']}{random}", rows, console)


def _heading(name: str) -> str:
    return name.replace("_ms", ", ms").replace("_mb", ", MB").replace("_", " ")


def _cell(entry: Mapping[str, Any], name: str, met: bool | None) -> str:
    found = entry["figures"][name]
    if not name.endswith("_ms"):
        return f"{found['mean']:,.0f}" if found["mean"] >= 100 else f"{found['mean']:.3g}"
    digits = 1 if found["p50"] < 100 else 0
    text = " / ".join(f"{found[part]:.{digits}f}" for part in ("p50", "p95", "p99"))
    if met is None:
        return text
    target = f"{TARGETS_MS[entry['batch'], name]:g}"
    return f"[green]{text} pass (≤ {target})[/]" if met else f"[red]{text} fail (> {target})[/]"
