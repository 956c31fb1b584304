"""Finds the model that an engine loads, on this machine. Nothing is downloaded here.

A model is one of the catalogue, whose files lie in PARLEY_MODELS_DIR or in the hub's cache; another repository of the hub; or a folder.
"""

from collections.abc import Sequence
from pathlib import Path

from shared.distribution import not_installed
from shared.engines.catalog import CatalogModel, catalog, default_model
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import ModelMissing, missing_files
from shared.settings import load_settings

VOCODER = "charactr/vocos-mel-24khz"
"""The vocoder of F5."""


def model_name(stage: str, engine: str, configured: str, device_kind: str) -> str:
    """Return the `configured` model, or else the engine's default for the kind of device: cuda, cpu or mps.

    Raises:
        UnknownEngine: no model is configured, and the engine has no default.
    """
    if configured:
        return configured
    # A Mac's GPU has enough memory for the larger chat model, but is too slow for the larger recogniser.
    large = device_kind.startswith("cuda") or (device_kind == "mps" and stage == "llm")
    default = default_model(stage, engine, "cuda" if large else "cpu")
    if default is None:
        raise UnknownEngine(f"PARLEY_{stage.upper()}_MODEL is empty, and the engine {engine} has no default: set it")
    return default.name


def find_model(
    name: str, needs: Sequence[str] = ("config.json",), cache: Path | None = None, models_dir: Path | None = None
) -> Path:
    """Return the folder of a complete model.

    Args:
        name: A model of the catalogue, a folder, or a repository of the hub (owner/name).
        needs: The files that must exist besides the weights. Of a model in PARLEY_MODELS_DIR all files must exist.
        cache: The hub's cache; None: that of HF_HOME.
        models_dir: The folder of the catalogue's models; None: PARLEY_MODELS_DIR.

    Raises:
        ModelMissing: there is no such model, or files are missing; the message lists them.
    """
    folder = find_folder(name, cache, models_dir)
    model = stored_model(name)
    if missing := model.missing_files(folder) if model else missing_files(folder, needs):
        raise ModelMissing(f"{name}: {', '.join(missing)} missing in {folder}. {how_to_bring(name)}")
    return folder


def find_folder(name: str, cache: Path | None = None, models_dir: Path | None = None) -> Path:
    """Return the folder of a model, complete or not. Raises `ModelMissing` if the folder does not exist."""
    if stored_model(name):
        folder = (models_dir or load_settings().models_dir) / name
        if not folder.is_dir():
            raise ModelMissing(f"{name} is not on this machine: no {folder}. {how_to_bring(name)}")
        return folder
    return as_folder(name) or _cached(name, cache)


def stored_model(name: str) -> CatalogModel | None:
    """Return the catalogue's entry of a model whose files lie in PARLEY_MODELS_DIR; None: it is another model."""
    model = catalog().get(name)
    return model if model and model.files else None


def as_folder(name: str) -> Path | None:
    """Return the path if it is an existing folder, else None."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown user's home
        return None


def how_to_bring(name: str) -> str:
    """Return how to download the model, and how to install it without a network."""
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return "It is a folder: put the model's files there."
    if stored_model(name):
        return (
            f"Run: parley models pull {name}. Without a network: copy the folder of another machine here and set "
            "PARLEY_MODELS_DIR to it."
        )
    return (
        f"Run: parley models pull {name}. Without a network: copy the cache of another machine here and set HF_HOME to "
        "it, or set the model to a folder with its files."
    )


def _cached(name: str, cache: Path | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise UnknownEngine(not_installed(f"The library that finds {name}", "neural", error.name)) from error
    try:
        # No patterns: Parley downloads only part of a repository, which the hub's library would report as incomplete.
        return Path(snapshot_download(name, cache_dir=cache, local_files_only=True, allow_patterns=[]))
    except HFValidationError as error:
        raise ModelMissing(f"{name!r} is neither a folder nor a model on the hub (owner/name)") from error
    except LocalEntryNotFoundError as error:
        raise ModelMissing(f"{name} is not on this machine. {how_to_bring(name)}") from error
