"""Which models the engines load, and their files on this machine. Nothing is downloaded here, and so never in the middle of a call."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine

VOCODER = "charactr/vocos-mel-24khz"
"""What turns F5's spectrograms into sound."""

DEFAULTS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "asr": {"transformers": {"cuda": "openai/whisper-large-v3-turbo", "cpu": "openai/whisper-base"}},
    "llm": {
        "transformers": {"cuda": "Qwen/Qwen3-4B-Instruct-2507", "cpu": "Qwen/Qwen3-0.6B"},
        "omni": {"cuda": "mistralai/Voxtral-Mini-3B-2507", "cpu": "mistralai/Voxtral-Mini-3B-2507"},
    },
    "tts": {
        "kokoro": {"cuda": "hexgrad/Kokoro-82M", "cpu": "hexgrad/Kokoro-82M"},
        "transformers": {"cuda": "facebook/mms-tts-eng", "cpu": "facebook/mms-tts-eng"},
        "f5": {"cuda": "SWivid/F5-TTS", "cpu": "SWivid/F5-TTS"},
    },
}
"""What each engine of a stage loads where the setting is empty, by kind of device."""

NEEDS: Mapping[str, tuple[str, ...]] = {
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
    "kokoro": ("config.json", "kokoro-v1_0.pth", "voices/*.pt"),
}

FOLDERS = ("additional_chat_templates/", "speaker_embeddings/")
VOICES = "spk_dict.pt"
"""The voices of a model that speaks; Bark's are in the second folder."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.onnx")
"""What a model's numbers lie in; one such file at least makes a folder a model."""

LAYOUTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
"""Weights in one file, or an index and the parts that it names, in the order in which transformers looks for them."""


class ModelMissing(UnknownEngine):
    """A model, or a file of it, is not on this machine; the message says which, and how to bring it."""


def model_name(stage: str, engine: str, configured: str, device_kind: str) -> str:
    """The model that an engine loads: the `configured` one, else its default for the kind of device: cuda, cpu or mps.

    Raises:
        UnknownEngine: nothing is configured, and the engine has no default.
    """
    if configured:
        return configured
    defaults = DEFAULTS.get(stage, {}).get(engine)
    if defaults is None:
        raise UnknownEngine(f"PARLEY_{stage.upper()}_MODEL is empty, and {engine} has no model of its own: name one")
    # A Mac's GPU has the memory for the larger chat model, but not the speed for the larger recogniser.
    large = device_kind.startswith("cuda") or (device_kind == "mps" and stage == "llm")
    return defaults["cuda" if large else "cpu"]


def needs_of(engine: str) -> tuple[str, ...]:
    """The files without which an engine cannot load its model, besides the weights that an index may name."""
    return NEEDS.get(engine, ("config.json",))


def allow_patterns_of(engine: str) -> tuple[str, ...]:
    """Names of the files of a repository that an engine may use, as `fnmatch` takes them."""
    return PATTERNS.get(engine) or needs_of(engine)


def wanted_files(engine: str, files: Iterable[str]) -> list[str]:
    """What an engine uses of a repository's `files`: each weight once, where a repository has them in several forms."""
    wanted = [file for file in files if any(fnmatchcase(file, pattern) for pattern in allow_patterns_of(engine))]
    if allow_patterns_of(engine) is not _OF_TRANSFORMERS:
        return wanted
    # Folders hold the same model in other forms (onnx, original, …); only these hold something of this one.
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
    """Whether a file of that name holds a model's numbers."""
    return any(fnmatchcase(file, pattern) for pattern in WEIGHTS)


def find_model(name: str, needs: Sequence[str] = ("config.json",), cache: Path | None = None) -> Path:
    """The folder of a model: `name` itself if it is one, else that of the hub's model `owner/name` in the cache.

    `needs` are the files that must be there, besides the weights: all parts that an index names. The cache is that of
    `HF_HOME`, where no other is given.

    Raises:
        ModelMissing: naming the file.
    """
    folder = find_folder(name, cache)
    if missing := missing_files(folder, needs):
        raise ModelMissing(f"{name}: {', '.join(missing)} missing in {folder}. {how_to_bring(name)}")
    return folder


def find_folder(name: str, cache: Path | None = None) -> Path:
    """The folder of a model that is here, in whole or in part. Raises `ModelMissing` where there is none."""
    return as_folder(name) or _cached(name, cache)


def as_folder(name: str) -> Path | None:
    """The folder with that path, if there is one."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a home of nobody
        return None


def missing_files(folder: Path, needs: Sequence[str] = ("config.json",)) -> list[str]:
    """What a model's folder lacks of what it needs, of the parts of its weights, or weights at all.

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
    # A link of the cache can be there when what it points to is gone.
    if not any(path.is_file() for pattern in WEIGHTS for path in folder.glob(pattern)):
        missing.append(LAYOUTS[0][0])
    return missing


def _parts(index: Path) -> list[str]:
    try:
        return sorted(set(map(str, json.loads(index.read_bytes())["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelMissing(f"{index} is damaged: delete it and bring it again") from error


def how_to_bring(name: str) -> str:
    """What to type where there is a network, and where there is none."""
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return "It is a folder: put the model's files there."
    return (
        f"Where there is a network: parley models pull {name}; "
        "else copy the folder of such a cache here and set HF_HOME to it, or name a folder with the files."
    )


def _cached(name: str, cache: Path | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise UnknownEngine(not_installed(f"The library that finds {name}", "neural", error.name)) from error
    try:
        # No pattern: only part of a repository is ever pulled, and the hub's library would take that for broken.
        return Path(snapshot_download(name, cache_dir=cache, local_files_only=True, allow_patterns=[]))
    except HFValidationError as error:
        raise ModelMissing(f"{name!r} is neither a folder nor a model of the hub (owner/name)") from error
    except LocalEntryNotFoundError as error:
        raise ModelMissing(f"{name} is not on this machine. {how_to_bring(name)}") from error
