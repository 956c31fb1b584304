"""The catalogue of models: every entry is right in itself, and the documentation lists it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploy.models.used import size_text
from shared.engines.catalog import CatalogModel, HubSource, WheelSource, catalog, default_model, engines_with_defaults

DOCS = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
SHA256 = "0" * 64
FILE = {"name": "a.bin", "size": 3, "sha256": SHA256}
HUB = {"hub": "owner/name", "revision": "a" * 40}
WHEEL = {"wheel": "some-package", "version": "1.0", "size": 5, "sha256": SHA256, "folder": "some_package/data"}
STORED = {
    "name": "some-model",
    "stage": "asr",
    "engine": "some",
    "licence": "MIT",
    "languages": "English",
    "files": [FILE],
    "sources": [HUB, WHEEL],
}


@pytest.mark.parametrize("model", catalog().values(), ids=lambda model: model.name)
def test_the_documentation_has_a_row_for_each_model(model: CatalogModel) -> None:
    licence = f"{model.licence}: **{model.remarks}**" if model.remarks == "no commercial use" else model.licence
    size = size_text(model.size)
    assert f"| `{model.name}` | {model.stage} `{model.engine}` | {licence} | {size} | {model.languages} |" in DOCS


@pytest.mark.parametrize(
    "name", ["whisper-tiny.en", "smollm2-135m-instruct", "piper-en_US-joe-medium", "smart-turn-v3.2"]
)
def test_a_model_of_the_light_profile_can_be_had_without_the_hub(name: str) -> None:
    assert any(isinstance(source, WheelSource) for source in catalog()[name].sources)


def test_the_defaults_of_an_engine() -> None:
    def name(*of: Any) -> str | None:
        found = default_model(*of)
        return found.name if found else None

    assert name("asr", "faster-whisper", "cpu") == "whisper-tiny.en"
    assert name("asr", "transformers", "cuda") == "openai/whisper-large-v3-turbo"
    assert name("tts", "f5", "cpu") == "SWivid/F5-TTS"
    assert name("llm", "openai", "cpu") is None
    assert engines_with_defaults("tts") == ["piper", "kokoro", "transformers", "f5"]


def test_an_entry_adds_up_its_files_and_names_its_wheel() -> None:
    model = CatalogModel.model_validate(STORED)
    assert (model.size, [type(source) for source in model.sources]) == (3, [HubSource, WheelSource])
    assert isinstance(model.sources[1], WheelSource)
    assert model.sources[1].filename == "some_package-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b/c"},
        {"name": ".."},
        {"stage": "ear"},
        {"sources": []},
        {"files": []},
        {"name": "owner/name"},
        {"files": [FILE, FILE]},
        {"files": [{**FILE, "sha256": "abc"}]},
        {"files": [{**FILE, "size": 0}]},
        {"files": [{**FILE, "name": "../a.bin"}]},
        {"files": [{**FILE, "name": "/etc/passwd"}]},
        {"files": [{**FILE, "name": "a\\b"}]},
        {"files": [{**FILE, "name": "."}]},
        {"files": [{**FILE, "name": ""}]},
        {"sources": [{**HUB, "revision": "main"}]},
        {"sources": [{**WHEEL, "folder": "../data"}]},
        {"sources": [{**WHEEL, "url": "http://elsewhere"}]},
        {"default_on": ["mps"]},
        {"license": "MIT"},
        {"files": [], "sources": [], "name": "owner/name"},
    ],
)
def test_a_wrong_entry_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CatalogModel.model_validate({**STORED, **wrong})


def test_a_file_of_another_size_counts_as_missing(tmp_path: Path) -> None:
    model = CatalogModel.model_validate(STORED)
    assert model.missing_files(tmp_path) == ["a.bin"]
    (tmp_path / "a.bin").write_bytes(b"ab")
    assert model.missing_files(tmp_path) == ["a.bin"]
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert model.missing_files(tmp_path) == []
