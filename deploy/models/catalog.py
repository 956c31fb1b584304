"""The models that the settings use: their names, their folders on this machine, and their missing files."""

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
    """A model of an engine. Without a name the engine needs no model from the hub."""

    stage: str
    engine: str
    name: str = ""
    kind: str = ""
    """Kind of model: a key of the tables in `shared.engines.models`, which say what files it needs. Empty if `file` is set."""
    file: str = ""
    """The only file that it needs."""
    note: str = ""
    """Why there is nothing to download."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Files without which the model does not load, besides the weights."""
        return (self.file,) if self.file else needs_of(self.kind)

    def wanted(self, files: Iterable[str]) -> list[str]:
        """Select the files of a repository that the engine uses."""
        return [file for file in files if file == self.file] if self.file else wanted_files(self.kind, files)

    @property
    def expected(self) -> tuple[str, ...]:
        """What to report as missing if no file is on this machine."""
        weights = ("the weights",) if self.kind in ("omni", "transformers") else ()
        return self.needs + weights


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What this machine has of a model."""

    state: State
    folder: Path | None = None
    missing: tuple[str, ...] = ()
    size: int = 0
    """Bytes on disk."""


def used_models(settings: Settings, *, everything: bool = False) -> list[Model]:
    """The models of the engines that the settings name. `everything`: also the default models of all other engines.

    Raises:
        UnknownEngine: a setting names no engine, or the model of an engine without a default is not set.
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
    """The models with these names, without duplicates. Without names: all models that the settings use."""
    if not names:
        return list({model.name: model for model in used_models(settings) if model.name}.values())
    known = {model.name: model for model in used_models(settings, everything=True) if model.name}
    for stage, engines in DEFAULTS.items():
        for engine, defaults in engines.items():
            for name in defaults.values():
                known.setdefault(name, Model(stage, engine, name, engine))
    return [known.get(name) or _unknown_model(name) for name in dict.fromkeys(names)]


def known_names(settings: Settings) -> set[str]:
    """All models that Parley knows by name: suggestions for a misspelt one."""
    defaults = {name for engines in DEFAULTS.values() for kinds in engines.values() for name in kinds.values()}
    return defaults | {model.name for model in used_models(settings, everything=True) if model.name}


def smart_turn_model(name: str) -> Model:
    """The Smart Turn model of a setting: a file on this machine, or `owner/name/file` on the hub."""
    path = Path(name)
    if path.is_file() or name.count("/") != 2:
        return Model("vad", "smart-turn", str(path.parent), file=path.name)
    owner, repository, file = name.split("/")
    return Model("vad", "smart-turn", f"{owner}/{repository}", file=file)


def model_status(model: Model, cache: Path | None = None) -> ModelStatus:
    """Look for the files of a model, without reading them. `cache`: the hub's cache; None: that of HF_HOME."""
    if not model.name:
        return ModelStatus("none needed")
    try:
        folder = find_folder(model.name, cache)
    except ModelMissing:
        return ModelStatus("absent", missing=model.expected)
    try:
        missing = tuple(missing_files(folder, model.needs))
    except ModelMissing:
        missing = ("a readable index of the weights",)
    # Several names can be links to the same file of the cache.
    files = [folder / model.file] if model.file else folder.rglob("*")
    size = sum(path.stat().st_size for path in {path.resolve() for path in files} if path.is_file())
    return ModelStatus("incomplete" if missing else "complete", folder, missing, size)


def size_text(size: float) -> str:
    """A number of bytes in decimal units, as on the hub's pages."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} {UNITS[-1]}"


def run_list(settings: Settings, *, everything: bool, as_json: bool, cache: Path | None = None) -> int:
    """Print every model with its status. Returns 0."""
    rows = [(model, model_status(model, cache)) for model in used_models(settings, everything=everything)]
    if as_json:
        print(json.dumps([_as_json(model, found) for model, found in rows], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("stage", "engine", "model", "state", "size", "where"):
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("state", "where"))
    for model, found in rows:
        state = f"missing: {', '.join(found.missing)}" if found.state == "incomplete" else found.state
        size = size_text(found.size) if found.folder else "–"
        where = str(found.folder or model.note or "–")
        table.add_row(model.stage, model.engine, model.name or "–", state, size, where)
    # In a file or a pipe no line is wrapped.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(table)
    if any(found.state in ("absent", "incomplete") for _, found in rows):
        print("\nDownload what the settings use: parley models pull")
    return 0


def _as_json(model: Model, found: ModelStatus) -> dict[str, object]:
    about = {name: value for name, value in asdict(model).items() if name in ("stage", "engine", "name", "note")}
    folder = str(found.folder) if found.folder else None
    return {**about, "state": found.state, "folder": folder, "missing": list(found.missing), "size": found.size}


def _models(stage: str, engine: str, configured: str, settings: Settings) -> Iterator[Model]:
    if engine in DEFAULTS.get(stage, {}):
        # The device matters only for the default model. `device_kind` imports torch, which takes seconds.
        kind = "cpu" if configured else device_kind(settings)
        yield Model(stage, engine, model_name(stage, engine, configured, kind), engine)
        if engine == "f5":
            yield Model(stage, engine, VOCODER, "vocos")
    elif engine == "openai":
        yield Model(stage, engine, note="at an endpoint")
    elif ":" in engine:
        yield Model(stage, engine, note="a third-party engine manages its own models")
    elif engine in (builtin := importlib.import_module(f"services.{stage}.engine").ENGINES):
        yield Model(stage, engine, note="comes with its package")
    else:
        known = ", ".join(sorted({*builtin, *DEFAULTS.get(stage, {})}))
        raise UnknownEngine(f"PARLEY_{stage.upper()}_ENGINE={engine!r}: known are {known}, or module:Class")


def _unknown_model(name: str) -> Model:
    """A model that no setting and no engine names: Smart Turn if it is an ONNX file, otherwise one of transformers."""
    return smart_turn_model(name) if name.endswith(".onnx") else Model("–", "–", name, "transformers")
