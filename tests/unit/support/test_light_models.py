"""`light_model`: a given folder, else the models folder, else a download, else the test is skipped."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.models.store import Store
from shared.engines.catalog import CatalogModel, catalog
from shared.settings import load_settings
from tests.support.light_models import light_model

NAME = "silero-vad"


@pytest.fixture(autouse=True)
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PARLEY_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("PARLEY_TEST_MODELS", raising=False)
    load_settings.cache_clear()
    light_model.cache_clear()
    yield tmp_path / "models"
    load_settings.cache_clear()
    light_model.cache_clear()


def put(folder: Path) -> Path:
    """Create files of the right sizes."""
    for file in catalog()[NAME].files:
        path = folder / NAME / file.name
        path.parent.mkdir(parents=True)
        path.touch()
        os.truncate(path, file.size)
    return folder / NAME


def test_the_given_folder_comes_first(tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(models_dir)
    given = put(tmp_path / "given")
    monkeypatch.setenv("PARLEY_TEST_MODELS", str(tmp_path / "given"))
    assert light_model(NAME) == given


def test_a_model_that_is_here_is_not_downloaded(models_dir: Path, no_network: None) -> None:
    folder = put(models_dir)
    assert light_model(NAME) == folder


def test_a_model_that_is_not_here_is_downloaded(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(store: Store, models: list[CatalogModel]) -> dict[str, str]:
        put(store.folder)
        return {}

    monkeypatch.setattr(Store, "pull", pull)
    assert light_model(NAME) == models_dir / NAME


def test_without_the_model_the_test_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "pull", lambda *_: {NAME: "nobody answered"})
    with pytest.raises(pytest.skip.Exception, match="nobody answered"):
        light_model(NAME)
