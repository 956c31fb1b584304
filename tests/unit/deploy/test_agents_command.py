"""`parley agents`: what it prints and returns."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from shared.settings import load_settings

GOOD = 'name = "Ada"\ndescription = "Someone."\ninstructions = "Be brief."\n'


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load_settings.cache_clear()
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["agents", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_shipped_agents_are_listed_with_the_default() -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "assistant*" in out
    assert "agents/assistant.toml" in out


def test_the_list_as_json_is_that_of_the_route() -> None:
    code, out, _ = run("list", "--json")
    body = json.loads(out)
    assert code == 0
    assert body["default"] == "assistant"
    assert set(body["agents"][0]) == {"id", "name", "description", "greeting", "language", "voice", "file"}


def test_a_good_file_or_folder_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ada.toml").write_text(GOOD)
    monkeypatch.setenv("PARLEY_GREETING", "Hello.")
    for path in (tmp_path, tmp_path / "ada.toml"):
        code, out, _ = run("check", str(path))
        assert code == 0
        assert "1 agents, no faults" in out
        assert "PARLEY_GREETING is set: it overrides every agent" in out


@pytest.mark.parametrize("arguments", [("list",), ("check",), ("list", "--json")])
def test_a_wrong_file_is_reported_with_its_line(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ada.toml").write_text(f"{GOOD}endpoint_ms = 1\n")
    monkeypatch.setenv("PARLEY_AGENTS", str(tmp_path))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err == f"{tmp_path / 'ada.toml'}:4: endpoint_ms = 1: must be a whole number from 100 to 5000\n"


def test_a_wrong_file_stops_the_start_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ada.toml").write_text(f"{GOOD}endpoint_ms = 1\n")
    monkeypatch.setenv("PARLEY_AGENTS", str(tmp_path))
    monkeypatch.setattr("deploy.local.up.up", lambda *_: pytest.fail("it was started"))
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 2
    assert "ada.toml:4: endpoint_ms" in result.stderr
