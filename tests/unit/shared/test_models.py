"""Default models, the files that an engine uses, and the files missing in a folder."""

import json
import os
from pathlib import Path

import pytest

from shared.engines.catalog import catalog
from shared.engines.models import (
    VOCODER,
    find_model,
    model_name,
)
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import ModelMissing, missing_files, needs_of, wanted_files
from shared.settings import load_settings

NAME = "someone/something"


def put(folder: Path, *files: str, text: str = "{}") -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


def index(folder: Path, *parts: str) -> None:
    put(folder, "model.safetensors.index.json", text=json.dumps({"weight_map": {part: part for part in parts}}))


def cached(cache: Path, name: str, *files: str) -> Path:
    """Create a snapshot in a cache, with the layout of the hub's library."""
    repository = cache / f"models--{name.replace('/', '--')}"
    put(repository, "refs/main", text="a" * 40)
    return put(repository / "snapshots" / ("a" * 40), *files)


def test_the_setting_comes_before_the_default() -> None:
    assert model_name("asr", "transformers", "my/model", "cpu") == "my/model"
    assert model_name("asr", "transformers", "", "cpu") == "openai/whisper-base"
    assert model_name("asr", "transformers", "", "cuda:1") == "openai/whisper-large-v3-turbo"


def test_a_mac_uses_the_large_chat_model_and_the_small_recogniser() -> None:
    assert model_name("llm", "transformers", "", "mps") == "Qwen/Qwen3-4B-Instruct-2507"
    assert model_name("asr", "transformers", "", "mps") == "openai/whisper-base"


def test_an_engine_without_a_default_asks_for_a_name() -> None:
    with pytest.raises(UnknownEngine, match="PARLEY_LLM_MODEL is empty, and the engine openai"):
        model_name("llm", "openai", "", "cpu")


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (
            ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"],
            ["config.json", "model.safetensors"],
        ),
        (["config.json", "pytorch_model.bin", "a.gguf"], ["config.json", "pytorch_model.bin"]),
        (
            ["model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"],
            ["model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"],
        ),
        (
            ["model.safetensors", "model.fp32-1-of-2.safetensors", "consolidated.safetensors", "training_args.bin"],
            ["model.safetensors"],
        ),
        (["other.safetensors", "other.bin"], ["other.safetensors"]),
        (["merges.txt", "spiece.model", "chat_template.jinja"], ["merges.txt", "spiece.model", "chat_template.jinja"]),
        (["onnx/config.json", "onnx/model.onnx", "original/params.json", "model.onnx"], []),
        (["additional_chat_templates/tool.jinja"], ["additional_chat_templates/tool.jinja"]),
        (["model.safetensors", "spk_dict.pt", "other.pt"], ["model.safetensors", "spk_dict.pt"]),
        (["speaker_embeddings/v2/en_0.npy", "data/x.npy"], ["speaker_embeddings/v2/en_0.npy"]),
        ([], []),
    ],
)
def test_weights_are_downloaded_in_one_format(files: list[str], wanted: list[str]) -> None:
    assert wanted_files("transformers", files) == wanted_files("omni", files) == wanted


@pytest.mark.parametrize("engine", ["kokoro", "f5", "vocos"])
def test_needed_files_are_downloaded(engine: str) -> None:
    needs = needs_of(engine)
    assert wanted_files(engine, [*needs, "README.md", "samples/one.wav", "F5TTS_Base/model.pt"]) == list(needs)


def test_all_voices_of_kokoro_are_downloaded() -> None:
    assert wanted_files("kokoro", ["voices/bf_emma.pt", "VOICES.md"]) == ["voices/bf_emma.pt"]


def test_a_model_may_be_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "model.safetensors")
    assert find_model(str(tmp_path)) == tmp_path


def test_weights_can_be_among_the_needs_and_in_folders(tmp_path: Path) -> None:
    needs = needs_of("f5")
    assert missing_files(tmp_path, needs) == list(needs)
    assert missing_files(put(tmp_path, *needs), needs) == []


def test_every_part_of_an_index_is_required(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "model-1.safetensors")
    index(tmp_path, "model-1.safetensors", "model-2.safetensors", "model-3.safetensors")
    assert missing_files(tmp_path) == ["model-2.safetensors", "model-3.safetensors"]


def test_an_index_is_ignored_beside_a_single_weights_file(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "model.safetensors")
    index(tmp_path, "model-1.safetensors")
    assert missing_files(tmp_path) == []


def test_a_dangling_link_counts_as_missing(tmp_path: Path) -> None:
    put(tmp_path, "config.json")
    (tmp_path / "weights.safetensors").symlink_to(tmp_path / "gone")
    assert missing_files(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "{" * 100_000, "\x00"])
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    put(tmp_path, "config.json")
    put(tmp_path, "model.safetensors.index.json", text=text)
    with pytest.raises(ModelMissing, match=r"model\.safetensors\.index\.json is damaged"):
        missing_files(tmp_path)


def test_a_model_in_the_cache(tmp_path: Path) -> None:
    folder = cached(tmp_path, NAME, "config.json", "model.safetensors")
    assert find_model(NAME, cache=tmp_path) == folder
    (folder / "config.json").unlink()
    with pytest.raises(ModelMissing, match=r"config\.json missing in .*parley models pull someone/something"):
        find_model(NAME, cache=tmp_path)


def test_a_missing_model_says_how_to_download_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"someone/something is not on this machine.*parley models pull"):
        find_model(NAME, cache=tmp_path)


@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "/no/such/folder", "../up", "x" * 300, "~nobody/x", "a\0b"])
def test_invalid_model_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        find_model(name or str(tmp_path), cache=tmp_path)


def test_the_vocoder_is_a_model_on_the_hub() -> None:
    assert VOCODER.count("/") == 1


def test_a_model_of_the_catalogue_lies_in_the_models_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ModelMissing, match=r"smart-turn-v3\.2 is not on this machine.*parley models pull smart-turn-v3\.2"
    ):
        find_model("smart-turn-v3.2", models_dir=tmp_path)
    file = put(tmp_path / "smart-turn-v3.2", "smart-turn-v3.2-cpu.onnx") / "smart-turn-v3.2-cpu.onnx"
    with pytest.raises(ModelMissing, match=r"smart-turn-v3\.2-cpu\.onnx missing in"):
        find_model("smart-turn-v3.2", models_dir=tmp_path)
    os.truncate(file, catalog()["smart-turn-v3.2"].size)
    assert find_model("smart-turn-v3.2", models_dir=tmp_path) == file.parent


def test_the_models_folder_is_the_one_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_MODELS_DIR", str(tmp_path / "mine"))
    load_settings.cache_clear()
    try:
        with pytest.raises(ModelMissing, match=str(tmp_path / "mine" / "silero-vad")):
            find_model("silero-vad")
    finally:
        load_settings.cache_clear()
