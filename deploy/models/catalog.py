"""`parley models`: which models the settings call for, where each lies, and what is missing of it."""

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from shared.engines.devices import device_kind
from shared.engines.models import (
    DEFAULTS,
    VOCODER,
    ModelMissing,
    find_folder,
    missing_files,
    model_name,
    needs_of,
    wanted_files,
)
from shared.engines.registry import UnknownEngine
from shared.settings import STAGES, Settings

State = Literal["complete", "incomplete", "absent", "none needed"]
UNITS = ("B", "kB", "MB", "GB")


@dataclass(frozen=True, slots=True)
class Model:
    """A model that an engine of a stage uses; without a name it has none that would have to be brought."""

    stage: str
    engine: str
    name: str = ""
    kind: str = ""
    """Which files it needs: a key of the tables in `shared.engines.models`, or empty where `file` says it."""
    file: str = ""
    """The only file that is used."""
    note: str = ""
    """Why there is nothing to bring."""

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.file,) if self.file else needs_of(self.kind)

    def wanted(self, files: Iterable[str]) -> list[str]:
        """What is used of a repository's files."""
        return [file for file in files if file == self.file] if self.file else wanted_files(self.kind, files)

    @property
    def expected(self) -> tuple[str, ...]:
        """What to say is missing where nothing is here."""
        weights = ("the weights",) if self.kind in ("omni", "transformers") else ()
        return self.needs + weights


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is of a model on this machine."""

    state: State
    folder: Path | None = None
    missing: tuple[str, ...] = ()
    size: int = 0
    """Bytes on disk."""


def used_models(settings: Settings, *, everything: bool = False) -> list[Model]:
    """What the engines of the settings use, and with `everything` what the other engines with models would.

    Raises:
        UnknownEngine: a setting names no engine, or an engine without a model of its own is given none.
    """
    models: list[Model] = []
    for stage in STAGES:
        configured = "" if stage == "vad" else getattr(settings, f"{stage}_model")
        models += _models(stage, getattr(settings, f"{stage}_engine"), configured, settings)
    if settings.endpoint_engine == "smart-turn" or everything:
        models.append(smart_turn_model(settings.smart_turn_model))
    if everything:
        taken = {(model.stage, model.engine) for model in models}
        every = [(stage_of, engine) for stage_of, engines in DEFAULTS.items() for engine in engines]
        for stage_of, engine in every:
            if (stage_of, engine) not in taken:
                models += _models(stage_of, engine, "", settings)
    return models


def named_models(settings: Settings, names: Sequence[str]) -> list[Model]:
    """The models with these names, each once; without names those that the settings use."""
    if not names:
        return list({model.name: model for model in used_models(settings) if model.name}.values())
    known = {model.name: model for model in used_models(settings, everything=True) if model.name}
    for stage, engines in DEFAULTS.items():
        for engine, defaults in engines.items():
            for name in defaults.values():
                known.setdefault(name, Model(stage, engine, name, engine))
    return [known.get(name) or _foreign(name) for name in dict.fromkeys(names)]


def known_names(settings: Settings) -> set[str]:
    """Names that a person may have meant."""
    defaults = {name for engines in DEFAULTS.values() for kinds in engines.values() for name in kinds.values()}
    return defaults | {model.name for model in used_models(settings, everything=True) if model.name}


def smart_turn_model(name: str) -> Model:
    """A file of its own, or the one file of a repository that the setting's third part names."""
    path = Path(name)
    if path.is_file() or name.count("/") != 2:
        return Model("vad", "smart-turn", str(path.parent), file=path.name)
    owner, repository, file = name.split("/")
    return Model("vad", "smart-turn", f"{owner}/{repository}", file=file)


def standing(model: Model, cache: Path | None = None) -> Standing:
    """Look at the files of a model; their contents are not read."""
    if not model.name:
        return Standing("none needed")
    try:
        folder = find_folder(model.name, cache)
    except ModelMissing:
        return Standing("absent", missing=model.expected)
    try:
        missing = tuple(missing_files(folder, model.needs))
    except ModelMissing:
        missing = ("a readable index of the weights",)
    # Two names can be links to one file of the cache.
    files = [folder / model.file] if model.file else folder.rglob("*")
    size = sum(path.stat().st_size for path in {path.resolve() for path in files} if path.is_file())
    return Standing("incomplete" if missing else "complete", folder, missing, size)


def size_text(size: float) -> str:
    """Bytes in decimal units, as the hub's pages show them."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} {UNITS[-1]}"


def run_list(settings: Settings, *, everything: bool, as_json: bool, cache: Path | None = None) -> int:
    """Print every model and what there is of it. Returns 0."""
    rows = [(model, standing(model, cache)) for model in used_models(settings, everything=everything)]
    if as_json:
        print(json.dumps([_as_json(model, found) for model, found in rows], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("stage", "engine", "model", "state", "size", "where"):
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("state", "where"))
    for model, found in rows:
        state = f"lacks {', '.join(found.missing)}" if found.state == "incomplete" else found.state
        size = size_text(found.size) if found.folder else "–"
        where = str(found.folder or model.note or "–")
        table.add_row(model.stage, model.engine, model.name or "–", state, size, where)
    # A table for a file or a pipe is as wide as its lines.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(table)
    if any(found.state in ("absent", "incomplete") for _, found in rows):
        print("\nparley models pull brings what the settings use")
    return 0


def _as_json(model: Model, found: Standing) -> dict[str, object]:
    about = {name: value for name, value in asdict(model).items() if name in ("stage", "engine", "name", "note")}
    folder = str(found.folder) if found.folder else None
    return {**about, "state": found.state, "folder": folder, "missing": list(found.missing), "size": found.size}


def _models(stage: str, engine: str, configured: str, settings: Settings) -> Iterator[Model]:
    if engine in DEFAULTS.get(stage, {}):
        # What `auto` means is asked only where it matters: torch takes seconds to import.
        kind = "cpu" if configured else device_kind(settings)
        yield Model(stage, engine, model_name(stage, engine, configured, kind), engine)
        if engine == "f5":
            yield Model(stage, engine, VOCODER, "vocos")
    elif engine == "openai":
        yield Model(stage, engine, note="at an endpoint")
    elif ":" in engine:
        yield Model(stage, engine, note="an engine from outside brings its own")
    elif engine in (builtin := importlib.import_module(f"services.{stage}.engine").ENGINES):
        yield Model(stage, engine, note="comes with its package")
    else:
        known = ", ".join(sorted({*builtin, *DEFAULTS.get(stage, {})}))
        raise UnknownEngine(f"PARLEY_{stage.upper()}_ENGINE={engine!r}: known are {known}, or module:Class")


def _foreign(name: str) -> Model:
    """A name that no setting and no engine knows."""
    return smart_turn_model(name) if name.endswith(".onnx") else Model("–", "–", name, "transformers")
