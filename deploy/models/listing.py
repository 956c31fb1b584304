"""`parley models list`: the models that the settings use, and what this machine has of them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from deploy.models.used import Model, ModelStatus, model_status, size_text, used_models
from shared.settings import Settings


def run_list(settings: Settings, *, everything: bool, as_json: bool, cache: Path | None = None) -> int:
    """Print every model with its status. Returns 0."""
    models = used_models(settings, everything=everything)
    rows = [(model, model_status(model, cache, settings.models_dir)) for model in models]
    if as_json:
        print(json.dumps([_as_json(model, found) for model, found in rows], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("stage", "engine", "model", "licence", "state", "size", "where"):
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("state", "where"))
    for model, found in rows:
        state = f"missing: {', '.join(found.missing)}" if found.state == "incomplete" else found.state
        licence = model.entry.licence if model.entry else "–"
        where = str(found.folder or model.note or "–")
        table.add_row(model.stage, model.engine, model.name or "–", licence, state, _size(model, found), where)
    # In a file or a pipe no line is wrapped.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(table)
    if any(found.state in ("absent", "incomplete") for _, found in rows):
        print("\nDownload what the settings use: parley models pull")
    return 0


def _size(model: Model, found: ModelStatus) -> str:
    """Return the space that a model takes on this disk, or would take if it is absent."""
    if found.folder:
        return size_text(found.size)
    return size_text(model.entry.size) if model.entry else "–"


def _as_json(model: Model, found: ModelStatus) -> dict[str, object]:
    about = {name: value for name, value in asdict(model).items() if name in ("stage", "engine", "name", "note")}
    card = {"licence": model.entry.licence, "languages": model.entry.languages} if model.entry else {}
    folder = str(found.folder) if found.folder else None
    return {
        **about, **card, "state": found.state, "folder": folder, "missing": list(found.missing), "size": found.size
    }  # fmt: skip
