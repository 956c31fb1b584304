"""The models that the engines load, and their files on this machine. Nothing is downloaded here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine

VOCODER = "charactr/vocos-mel-24khz"
"""The vocoder of F5."""

DEFAULTS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "asr": {"transformers": {"cuda": "openai/whisper-large-v3-turbo", "cpu": "openai/whisper-base"}},
    "llm": {
        "llama-cpp": {"cuda": "Qwen/Qwen3-4B-GGUF", "cpu": "smollm2-135m-instruct"},
        "transformers": {"cuda": "Qwen/Qwen3-4B-Instruct-2507", "cpu": "Qwen/Qwen3-0.6B"},
        "omni": {"cuda": "mistralai/Voxtral-Mini-3B-2507", "cpu": "mistralai/Voxtral-Mini-3B-2507"},
    },
    "tts": {
        "kokoro": {"cuda": "hexgrad/Kokoro-82M", "cpu": "hexgrad/Kokoro-82M"},
        "transformers": {"cuda": "facebook/mms-tts-eng", "cpu": "facebook/mms-tts-eng"},
        "f5": {"cuda": "SWivid/F5-TTS", "cpu": "SWivid/F5-TTS"},
    },
}
"""The default model by stage, engine and kind of device."""

NEEDS: Mapping[str, tuple[str, ...]] = {
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


def model_name(stage: str, engine: str, configured: str, device_kind: str) -> str:
    """Return the `configured` model, or else the engine's default for the kind of device: cuda, cpu or mps.

    Raises:
        UnknownEngine: no model is configured, and the engine has no default.
    """
    if configured:
        return configured
    defaults = DEFAULTS.get(stage, {}).get(engine)
    if defaults is None:
        raise UnknownEngine(f"PARLEY_{stage.upper()}_MODEL is empty, and the engine {engine} has no default: set it")
    # A Mac's GPU has enough memory for the larger chat model, but is too slow for the larger recogniser.
    large = device_kind.startswith("cuda") or (device_kind == "mps" and stage == "llm")
    return defaults["cuda" if large else "cpu"]


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


def find_model(name: str, needs: Sequence[str] = ("config.json",), cache: Path | None = None) -> Path:
    """Return the folder of a complete model: `name` itself if it is a folder, else the hub's `owner/name` in the cache.

    `needs` are the files that must exist besides the weights. The default cache is the one of `HF_HOME`.

    Raises:
        ModelMissing: there is no such model, or files are missing; the message lists them.
    """
    folder = find_folder(name, cache)
    if missing := missing_files(folder, needs):
        raise ModelMissing(f"{name}: {', '.join(missing)} missing in {folder}. {how_to_bring(name)}")
    return folder


def find_folder(name: str, cache: Path | None = None) -> Path:
    """Return the folder of a model, complete or not. Raises `ModelMissing` if there is none."""
    return as_folder(name) or _cached(name, cache)


def as_folder(name: str) -> Path | None:
    """Return the path if it is an existing folder, else None."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown user's home
        return None


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


def how_to_bring(name: str) -> str:
    """Return how to download the model, and how to install it without a network."""
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return "It is a folder: put the model's files there."
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
