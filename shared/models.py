"""Find the files of a model on this machine. Nothing is downloaded here, and so never in the middle of a call."""

import json
from collections.abc import Sequence
from pathlib import Path

from shared.engines import UnknownEngine

WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.onnx")
"""What a model's numbers lie in; one such file at least makes a folder a model."""

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class ModelMissing(UnknownEngine):
    """A model, or a file of it, is not on this machine; the message says which, and how to bring it."""


def find_model(name: str, needs: Sequence[str] = ("config.json",)) -> Path:
    """The folder of a model: `name` itself if it is one, else that of the hub's model `owner/name` in the cache (`HF_HOME`).

    `needs` are the files that must be there, besides the weights: all parts that an index names.

    Raises:
        ModelMissing: naming the file.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _cached(name)
    for missing in missing_files(folder, needs):
        raise ModelMissing(f"{name}: {missing} is missing in {folder}. {how_to_bring(name)}")
    return folder


def missing_files(folder: Path, needs: Sequence[str] = ("config.json",)) -> list[str]:
    """What a model's folder lacks of what it needs, of the parts of its weights, or weights at all."""
    missing = [need for need in needs if not (folder / need).is_file()]
    for index in INDEXES:
        if (folder / index).is_file():
            parts = set(json.loads((folder / index).read_text())["weight_map"].values())
            return missing + sorted(part for part in parts if not (folder / part).is_file())
    if not any(True for pattern in WEIGHTS for _ in folder.glob(pattern)):
        missing.append("model.safetensors")
    return missing


def how_to_bring(name: str) -> str:
    """What to type where there is a network, and where there is none."""
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return "It is a folder: put the model's files there."
    return (
        f"Where there is a network: parley models pull {name}; "
        "else copy the folder of such a cache here and set HF_HOME to it, or name a folder with the files."
    )


def _cached(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise UnknownEngine(f"{name} needs {error.name}: pip install 'parley[neural]'") from error
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise ModelMissing(f"{name!r} is neither a folder nor a model of the hub (owner/name)") from error
    except LocalEntryNotFoundError as error:
        raise ModelMissing(f"{name} is not on this machine. {how_to_bring(name)}") from error
