"""The command line: what it calls, what it prints, how it exits."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from shared.distribution import checkout
from shared.engines.registry import UnknownEngine
from shared.settings import TABLE, BadSettings, Settings, load_settings

pytestmark = pytest.mark.usefixtures("no_settings")

SERVICES = ("vad", "asr", "llm", "tts", "edge")


def replace_service(monkeypatch: pytest.MonkeyPatch, name: str, main: Callable[[], int]) -> None:
    """Replace the real service."""
    module = ModuleType(f"services.{name}.__main__")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_and_its_exit_code_is_returned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_service(monkeypatch, name, lambda: 7)
    assert CliRunner().invoke(app, [name]).exit_code == 7


@pytest.mark.parametrize("error", [BadSettings("PARLEY_X=1: wrong"), UnknownEngine("PARLEY_X=1: wrong")])
def test_wrong_settings_of_a_service_are_printed_without_a_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> int:
        raise error

    replace_service(monkeypatch, "vad", main)
    result = CliRunner().invoke(app, ["vad"])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "PARLEY_X=1: wrong\n")


def test_a_start_that_would_be_open_to_everybody_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARLEY_HOST", "0.0.0.0")
    monkeypatch.setenv("PARLEY_DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("PARLEY_HOST=0.0.0.0: everybody")
    assert "parley keys create" in line
    assert "PARLEY_OPEN=true" in line


@pytest.mark.parametrize("command", [["config"], ["config", "--json"], ["doctor"], ["up"]])
def test_every_wrong_setting_is_named(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PORT", "abc")
    monkeypatch.setenv("PARLEY_LEASE_MS", "0")
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "PARLEY_PORT='abc': " in result.stderr
    assert "PARLEY_LEASE_MS='0': " in result.stderr


@pytest.mark.parametrize("command", ["config", "doctor", "up", *SERVICES])
def test_a_misspelt_variable_stops_every_start(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ENDPONT_MS", "700")
    result = CliRunner().invoke(app, [command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "PARLEY_ENDPONT_MS: there is no such setting; did you mean PARLEY_ENDPOINT_MS? "
        "docs/settings.md lists all settings.\n"
    )


def test_config_tells_value_default_and_meaning_of_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PORT", "8123")
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["config", "--json"]).stdout)}
    assert list(rows) == [row.variable for row in TABLE.values()]
    assert rows["PARLEY_PORT"] == {
        "name": "PARLEY_PORT",
        "value": 8123,
        "default": 8000,
        "is_default": False,
        "allowed": "a whole number from 0 to 65535",
        "unit": "",
        "client": False,
        "section": "Start, addresses and logs",
        "description": TABLE["port"].setting.text,
    }
    assert rows["PARLEY_ENDPOINT_MS"]["client"]
    assert {name for name, row in rows.items() if not row["is_default"]} == {"PARLEY_PORT"}
    assert all(row["description"] for row in rows.values())


def test_config_fits_a_terminal_and_marks_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PORT", "8123")
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["config"]).stdout.splitlines()
    assert "* PARLEY_PORT = 8123  (default 8000)" in lines
    assert [line for line in lines if line.startswith("*")] == ["* PARLEY_PORT = 8123  (default 8000)"]
    assert len(lines) < 4 * len(TABLE)
    assert max(map(len, lines)) <= 80


def test_config_shows_the_settings_that_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PORT", "8123")

    def shown(*arguments: str) -> list[str]:
        return [row["name"] for row in json.loads(CliRunner().invoke(app, ["config", *arguments, "--json"]).stdout)]

    assert shown("--changed") == ["PARLEY_PORT"]
    assert shown("twilio", "SIGNATURE") == ["PARLEY_TWILIO_AUTH_TOKEN"]
    assert shown("xyzzy") == []
    assert CliRunner().invoke(app, ["config", "xyzzy"]).stdout == "no setting contains these words\n"


def test_config_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_REDIS_URL", "redis://:geheim@host")
    monkeypatch.setenv("PARLEY_TWILIO_AUTH_TOKEN", "geheim")
    monkeypatch.setenv("PARLEY_KEY", "pk_geheim")
    for command in (["config"], ["config", "--json"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0
        assert "geheim" not in result.output
        assert "****" in result.output


def test_up_takes_port_and_profile_as_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"PARLEY_PORT": "8001"})
    seen: list[Settings] = []

    def up(settings: Settings, environ: object) -> int:
        seen.append(settings)
        return 3

    monkeypatch.setattr("deploy.local.up.up", up)
    assert CliRunner().invoke(app, ["up", "--port", "8123", "--profile", "classic"]).exit_code == 3
    assert (seen[0].port, seen[0].profile) == (8123, "classic")
    load_settings.cache_clear()
    refused = CliRunner().invoke(app, ["up", "--profile", "loud"])
    assert refused.exit_code == 2
    assert "PARLEY_PROFILE='loud'" in refused.stderr


def test_talk_connects_to_the_url_or_to_the_edge_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def run_talk(file: Path, *, url: str, agent: str, **_: object) -> int:
        seen.append((url, agent))
        return 0

    monkeypatch.setattr("deploy.client.talk.run_talk", run_talk)
    monkeypatch.setenv("PARLEY_PORT", "8123")
    said = tmp_path / "hello.wav"
    said.touch()
    for more in ([], ["--url", "http://there:1", "--agent", "captain"]):
        assert CliRunner().invoke(app, ["talk", str(said), *more]).exit_code == 0
    assert seen == [("http://127.0.0.1:8123", ""), ("http://there:1", "captain")]


def test_no_help_text_contains_markup() -> None:
    """Rich reads `[x` as the beginning of a style, and does not print it."""

    def helps(command: Any) -> Iterator[str]:
        for one in getattr(command, "commands", {}).values():
            yield from helps(one)
        yield from (parameter.help or "" for parameter in command.params)

    assert [text for text in helps(typer.main.get_command(app)) if re.search(r"\[[a-z#/@]", text)] == []


def test_bench_runs_the_benchmarks_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr("os.execve", lambda *argv: ran.append(argv))
    assert CliRunner().invoke(app, ["bench", "pipeline", "--help", "--sessions=1"]).exit_code == 0
    ((program, argv, env),) = ran
    assert (program, argv[1:]) == (sys.executable, ["-m", "benchmarks", "pipeline", "--help", "--sessions=1"])
    assert env["PYTHONPATH"].split(os.pathsep)[0] == str(checkout())


def test_bench_without_a_checkout_says_where_the_benchmarks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.cli.bench.checkout", lambda: None)
    monkeypatch.setattr("os.execve", lambda *argv: pytest.fail("it would replace this process"))
    result = CliRunner().invoke(app, ["bench", "pipeline"])
    assert result.exit_code == 2
    assert "clone of its repository" in result.stderr


def test_the_help_shows_every_command_in_a_group() -> None:
    command = typer.main.get_command(app)
    assert all(one.rich_help_panel for one in command.commands.values())  # type: ignore[attr-defined]
