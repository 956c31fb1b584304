"""The files of a repository on the model hub: which of them an engine uses, and which a folder lacks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from shared.engines.registry import UnknownEngine

NEEDS: Mapping[str, tuple[str, ...]] = {
    "faster-whisper": ("config.json", "model.bin", "tokenizer.json"),
    "llama-cpp": (),
    "kokoro": ("config.json", "kokoro-v1_0.pth", "voices/af_heart.pt"),
    "f5": ("F5TTS_v1_Base/vocab.txt", "F5TTS_v1_Base/model_1250000.safetensors"),
    "vocos": ("config.yaml", "pytorch_model.bin"),
}

_OF_TRANSFORMERS = (
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
    "*.npy",
    "*.safetensors",
    "*.bin",
    "spk_dict.pt",
)

PATTERNS: Mapping[str, tuple[str, ...]] = {
    "transformers": _OF_TRANSFORMERS,
    "omni": _OF_TRANSFORMERS,
    "faster-whisper": ("config.json", "model.bin", "tokenizer.json", "preprocessor_config.json", "vocabulary.*"),
    "llama-cpp": ("*Q4_K_M.gguf",),
    "kokoro": ("config.json", "kokoro-v1_0.pth", "voices/*.pt"),
}

FOLDERS = ("additional_chat_templates/", "speaker_embeddings/")
"""Folders of a repository that transformers reads besides the top level."""
VOICES = "spk_dict.pt"
"""The voices of a speaking model; Bark's are in `speaker_embeddings/`."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.onnx", "*.gguf")
"""Patterns of weight files; a model's folder has at least one."""

LAYOUTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
"""Weights as one file, or as an index and its parts, in the order in which transformers looks for them."""


class ModelMissing(UnknownEngine):
    """A model, or one of its files, is not on this machine. The message says which, and how to download it."""


def needs_of(engine: str) -> tuple[str, ...]:
    """Return the files that an engine needs to load its model, besides the weights that an index may list."""
    return NEEDS.get(engine, ("config.json",))


def allow_patterns_of(engine: str) -> tuple[str, ...]:
    """Return the `fnmatch` patterns of the files of a repository that an engine may use."""
    return PATTERNS.get(engine) or needs_of(engine)


def wanted_files(engine: str, files: Iterable[str]) -> list[str]:
    """Return those of a repository's `files` that an engine uses, with the weights in one format only."""
    wanted = [file for file in files if any(fnmatchcase(file, pattern) for pattern in allow_patterns_of(engine))]
    if allow_patterns_of(engine) is not _OF_TRANSFORMERS:
        return wanted
    # Other folders hold the same model in other formats (onnx, original, …).
    wanted = [file for file in wanted if "/" not in file or file.startswith(FOLDERS)]
    weights = _weights(wanted)
    return [file for file in wanted if file in weights or not are_weights(file) or file == VOICES]


def _weights(files: Sequence[str]) -> set[str]:
    for single, index, parts in LAYOUTS:
        if single in files:
            return {single}
        if index in files:
            return {file for file in files if fnmatchcase(file, parts)}
    found = {file for file in files if are_weights(file) and file != VOICES}
    return {file for file in found if file.endswith(".safetensors")} or found


def are_weights(file: str) -> bool:
    """Return whether a file of that name contains weights."""
    return any(fnmatchcase(file, pattern) for pattern in WEIGHTS)


def missing_files(folder: Path, needs: Sequence[str] = ("config.json",)) -> list[str]:
    """Return the files that a model's folder lacks: those in `needs`, and weights.

    Raises:
        ModelMissing: an index is damaged.
    """
    missing = [need for need in needs if not (folder / need).is_file()]
    if any(are_weights(need) for need in needs):
        return missing
    for single, index, _ in LAYOUTS:
        if (folder / single).is_file():
            return missing
        if (folder / index).is_file():
            return missing + [part for part in _parts(folder / index) if not (folder / part).is_file()]
    # A link in the cache may point to a deleted file.
    if not any(path.is_file() for pattern in WEIGHTS for path in folder.glob(pattern)):
        missing.append(LAYOUTS[0][0])
    return missing


def _parts(index: Path) -> list[str]:
    try:
        return sorted(set(map(str, json.loads(index.read_bytes())["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelMissing(f"{index} is damaged: delete it and download it again") from error
