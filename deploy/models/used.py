"""The models that the settings use: their names, their folders on this machine, and their missing files."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.engines.catalog import CatalogModel, catalog, default_model, engines_with_defaults
from shared.engines.devices import device_kind
from shared.engines.models import VOCODER, find_folder, model_name, stored_model
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import ModelMissing, are_weights, missing_files, needs_of, wanted_files
from shared.settings import ENDPOINT_ENGINE, STAGES, Settings

State = Literal["complete", "incomplete", "absent", "none needed"]
UNITS = ("B", "kB", "MB", "GB")


@dataclass(frozen=True, slots=True)
class Model:
    """A model of an engine. Without a name there is nothing to download."""

    stage: str
    engine: str
    name: str = ""
    kind: str = ""
    """Kind of repository: a key of the tables in `shared.engines.repositories`, which say what files it needs."""
    note: str = ""
    """Why there is nothing to download."""

    @property
    def entry(self) -> CatalogModel | None:
        """Its entry in the catalogue."""
        return catalog().get(self.name)

    @property
    def stored(self) -> CatalogModel | None:
        """Its entry, if its files lie in PARLEY_MODELS_DIR."""
        return stored_model(self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        """Files without which the model does not load, besides the weights."""
        return needs_of(self.kind)

    def wanted(self, files: Iterable[str]) -> list[str]:
        """Select the files of a repository that the engine uses."""
        return wanted_files(self.kind, files)

    @property
    def expected(self) -> tuple[str, ...]:
        """What to report as missing if no file is on this machine."""
        if self.stored:
            return tuple(file.name for file in self.stored.files)
        weights = () if any(map(are_weights, self.needs)) else ("the weights",)
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
    if settings.endpoint_engine in ("smart-turn", "fused"):
        models.append(_smart_turn(settings.smart_turn_model))
    if everything:
        taken = {(model.stage, model.engine) for model in models}
        for stage_of in (*STAGES, "endpoint"):
            for engine in engines_with_defaults(stage_of):
                if (stage_of, engine) not in taken:
                    models += _models(stage_of, engine, "", settings)
    return models


def named_models(settings: Settings, names: Sequence[str]) -> list[Model]:
    """The models with these names, without duplicates. Without names: all models that the settings use."""
    if not names:
        return list({model.name: model for model in used_models(settings) if model.name}.values())
    known = {model.name: model for model in used_models(settings) if model.name}
    for entry in catalog().values():
        known.setdefault(entry.name, Model(entry.stage, entry.engine, entry.name, entry.kind or entry.engine))
    return [known.get(name) or Model("–", "–", name, "transformers") for name in dict.fromkeys(names)]


def known_names(settings: Settings) -> set[str]:
    """All models that Parley knows by name: suggestions for a misspelt one."""
    return {*catalog(), *(model.name for model in used_models(settings) if model.name)}


def model_status(model: Model, cache: Path | None = None, models_dir: Path | None = None) -> ModelStatus:
    """Look for the files of a model, without reading them.

    `cache` is the hub's cache, None: that of HF_HOME. `models_dir` is the folder of the catalogue's models, None: PARLEY_MODELS_DIR.
    """
    if not model.name:
        return ModelStatus("none needed")
    try:
        folder = find_folder(model.name, cache, models_dir)
    except ModelMissing:
        return ModelStatus("absent", missing=model.expected)
    try:
        missing = tuple(model.stored.missing_files(folder) if model.stored else missing_files(folder, model.needs))
    except ModelMissing:
        missing = ("a readable index of the weights",)
    # Several names can be links to the same file of the cache.
    size = sum(path.stat().st_size for path in {path.resolve() for path in folder.rglob("*")} if path.is_file())
    return ModelStatus("incomplete" if missing else "complete", folder, missing, size)


def size_text(size: float) -> str:
    """A number of bytes in decimal units, as on the hub's pages."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} {UNITS[-1]}"


def _models(stage: str, engine: str, configured: str, settings: Settings) -> Iterator[Model]:
    if engine in (with_default := engines_with_defaults(stage)):
        # `device_kind` imports torch, which takes seconds.
        depends = default_model(stage, engine, "cpu") != default_model(stage, engine, "cuda")
        kind = device_kind(settings) if depends and not configured else "cpu"
        yield Model(stage, engine, model_name(stage, engine, configured, kind), engine)
        if engine == "f5":
            yield Model(stage, engine, VOCODER, "vocos")
    elif engine == ENDPOINT_ENGINE:
        yield Model(stage, engine, note="at an endpoint")
    elif ":" in engine:
        yield Model(stage, engine, note="a third-party engine manages its own models")
    elif engine in (builtin := importlib.import_module(f"services.{stage}.engine").ENGINES):
        yield Model(stage, engine, note="comes with its package")
    else:
        known = ", ".join(sorted({*builtin, *with_default}))
        raise UnknownEngine(f"PARLEY_{stage.upper()}_ENGINE={engine!r}: known are {known}, or module:Class")


def _smart_turn(name: str) -> Model:
    if Path(name).is_file():
        return Model("endpoint", "smart-turn", note=f"the file {name}")
    return Model("endpoint", "smart-turn", name, "smart-turn")
