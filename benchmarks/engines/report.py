"""Shows the figures of the engines in tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.engines.figures import STAGGERED, TARGETS_MS, TOKENS_PER_S, verdicts
from benchmarks.tables import new_table

RANDOM = "random weights: speed only"

COLUMNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "asr": (("final_ms", "transcript, ms"), ("rtf", "real-time factor"), ("sessions", "sessions at real time")),
    "llm": (
        ("first_token_ms", "first token, ms"),
        ("next_token_ms", "next token, ms"),
        ("tokens_per_s", "tokens/s"),
        ("sessions", "sessions at real time"),
    ),
    "tts": (
        ("first_clause_audio_ms", "first audio of 5 words, ms"),
        ("first_sentence_audio_ms", "of 15 words, ms"),
        ("rtf", "real-time factor"),
        ("sessions", "sessions at real time"),
    ),
    "chain": (
        ("final_ms", "transcript, ms"),
        ("first_token_ms", "first token, ms"),
        ("clause_ms", "to the clause's end, ms"),
        ("first_audio_ms", "first audio, ms"),
        ("total_ms", "in all, ms"),
        (f"{STAGGERED}total_ms", "in all, staggered, ms"),
    ),
}

NOTES: Mapping[str, str] = {
    "llm": f"A session needs about {TOKENS_PER_S:g} tokens a second. A delta counts as one.",
    "chain": "All conversations ask at once; staggered: at random within a second.",
}


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the result. Times are p50 / p95 / p99, other figures are means."""
    device = result["device"]
    versions = f"torch {device['torch']}, {device['dtype']}" if device["torch"] else "no torch"
    console.print(
        f"{result['date']}  commit {result['commit']}  {device['name']} ({device['kind']}), {versions}, "
        f"{result['cores']} cores; {result['seconds']:g} s of speech; ms: p50 / p95 / p99",
        markup=False,
    )
    for stage in COLUMNS:
        if mine := [entry for entry in result["entries"] if entry["stage"] == stage and entry["figures"]]:
            console.print(_table(stage, mine, random=any(entry["random"] for entry in mine), on_gpu=_is_gpu(result)))
            if stage in NOTES:
                console.print(NOTES[stage], style="dim", markup=False)
    for entry in result["entries"]:
        if entry["error"]:
            console.print(f"✗ {_label(entry)}: {entry['error']}", style="red", markup=False)
    for name, table in result["profiles"].items():
        console.print(f"\n{name}: where the time goes\n{table}", markup=False, soft_wrap=True)


def _is_gpu(result: Mapping[str, Any]) -> bool:
    return bool(result["device"]["kind"] == "cuda")


def _label(entry: Mapping[str, Any]) -> str:
    return f"{entry['stage']} {entry['engine']} × {entry['batch']}"


def _table(stage: str, entries: Sequence[Mapping[str, Any]], *, random: bool, on_gpu: bool) -> Table:
    columns = COLUMNS[stage]
    title = f"\n{stage}: {entries[0]['engine']}, {entries[0]['model']}" + (f" ({RANDOM})" if random else "")
    memory = list(dict.fromkeys(name for entry in entries for name in entry["memory"]))
    headings = (name.removesuffix("_mb").replace("_", " ") + ", MB" for name in memory)
    table = new_table(title, "sessions", *(heading for _, heading in columns), *headings)
    for entry in entries:
        met = verdicts(entry) if on_gpu else {}
        cells = [_cell(entry, name, met.get(name)) for name, _ in columns]
        sizes = [f"{entry['memory'][name]:.0f}" if name in entry["memory"] else "–" for name in memory]
        table.add_row(str(entry["batch"]), *cells, *sizes)
    return table


def _cell(entry: Mapping[str, Any], name: str, met: bool | None) -> str:
    found = entry["figures"].get(name)
    if not found or not found["n"]:
        return "–"
    if not name.endswith("_ms"):
        return f"{found['mean']:,.0f}" if found["mean"] >= 100 else f"{found['mean']:.3g}"
    digits = 1 if found["p50"] < 100 else 0
    text = " / ".join(f"{found[part]:.{digits}f}" for part in ("p50", "p95", "p99"))
    if met is None:
        return text
    target = f"{TARGETS_MS[entry['batch'], name]:g}"
    return f"[green]{text} pass (≤ {target})[/]" if met else f"[red]{text} fail (> {target})[/]"
