"""`parley acl`: the file that it writes, and what it prints."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from shared.bus.acl import COMMANDS
from shared.settings import load_settings


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    load_settings.cache_clear()
    monkeypatch.setenv("PARLEY_REDIS_URL", "rediss://old:password@broker.example:6380/1")


def test_it_writes_a_private_file_and_prints_a_url_for_each_role(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    result = CliRunner().invoke(app, ["acl", str(file)])
    assert result.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert "old:password" not in result.stdout
    for role in COMMANDS:
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(f"{role} "))
        password = line.partition(f"PARLEY_REDIS_URL=rediss://{role}:")[2].removesuffix("@broker.example:6380/1")
        assert len(password) >= 32
        assert password not in file.read_text()


def test_it_keeps_a_file_that_exists(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text("user default off\n")
    result = CliRunner().invoke(app, ["acl", str(file)])
    assert result.exit_code == 1
    assert "File exists" in result.stderr
    assert file.read_text() == "user default off\n"
    load_settings.cache_clear()
