"""`parley observe` up to the start of its programs: finding them, ports, folder and configuration."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import observe
from deploy.local.address import PortTaken
from deploy.local.observe import ALERTMANAGER, PROMETHEUS, CannotObserve, find_tools, metrics_targets, private_folder
from shared.settings import Settings
from tests.conftest import need
from tests.support.waiting import HANG_S

TARGETS = {"vad": "127.0.0.1:9464", "edge": "127.0.0.1:9468"}


def put_program(folder: Path, name: str, script: str = "exit 0") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("name", ["alertmanager", "prometheus-alertmanager"])
def test_a_program_is_found_under_any_of_its_names(tmp_path: Path, name: str) -> None:
    paths = {PROMETHEUS: put_program(tmp_path, "prometheus"), ALERTMANAGER: put_program(tmp_path, name)}
    said: list[str] = []
    assert find_tools(str(tmp_path), said.append) == paths
    assert said == []


def test_a_missing_program_is_reported_and_the_other_is_used(tmp_path: Path) -> None:
    path = put_program(tmp_path, "prometheus")
    said: list[str] = []
    assert find_tools(str(tmp_path), said.append) == {PROMETHEUS: path}
    assert said == ["alertmanager is not installed; on Debian: sudo apt-get install prometheus-alertmanager"]


def test_without_any_program_there_is_nothing_to_run(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(CannotObserve, match="nothing to run"):
        find_tools(str(tmp_path), said.append)
    assert len(said) == 2


def test_alertmanager_is_not_started_without_its_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_program(tmp_path, "prometheus")
    put_program(tmp_path, "alertmanager")
    monkeypatch.setattr(observe, "ROUTES", tmp_path / "gone.yml")
    said: list[str] = []
    assert find_tools(str(tmp_path), said.append) == {PROMETHEUS: path}
    assert said == [f"{tmp_path / 'gone.yml'} is missing: Alertmanager is not started"]


def test_a_free_port_replaces_the_usual_one_but_not_a_requested_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        tool = observe.Tool("prometheus", ("prometheus",), "prometheus", port)
        assert observe.take_port(tool, None) != port
        with pytest.raises(PortTaken, match=f"port {port} .* choose another with --prometheus-port"):
            observe.take_port(tool, port)
    assert observe.take_port(tool, None) == port


def test_the_folder_has_mode_0700_and_one_user_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "observe"
    with private_folder(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        with pytest.raises(CannotObserve, match="another `parley observe` uses"), private_folder(folder):
            pass
    with private_folder(folder):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CannotObserve, match=f"PARLEY_DATA_DIR: {tmp_path}/file/observe: Not a directory"),
        private_folder(tmp_path / "file" / "observe"),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "first", "last"),
    [
        (Settings(metrics_port=0), "127.0.0.1:9464", "127.0.0.1:9468"),
        (Settings(metrics_port=9100, metrics_host="0.0.0.0"), "127.0.0.1:9100", "127.0.0.1:9104"),
        (Settings(metrics_port=9100, metrics_host="::"), "[::1]:9100", "[::1]:9104"),
    ],
)
def test_the_targets_are_the_metrics_addresses_of_the_services(settings: Settings, first: str, last: str) -> None:
    targets = metrics_targets(settings)
    assert list(targets) == ["vad", "asr", "llm", "tts", "edge"]
    assert (targets["vad"], targets["edge"]) == (first, last)


@pytest.mark.parametrize("complete", [True, False])
def test_prometheus_accepts_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool) -> None:
    rules = tmp_path / "alerts.yaml"
    monkeypatch.setattr(observe, "RULES", rules)
    if complete:
        rules.write_text("groups: [{name: one, rules: [{alert: Any, expr: vector(1)}]}]")
    said: list[str] = []
    ports = {PROMETHEUS: 9090, ALERTMANAGER: 9093} if complete else {PROMETHEUS: 9090}
    observe.write_configuration(tmp_path, Settings(), ports, said.append)
    checked = subprocess.run(
        [need("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True, text=True, timeout=HANG_S, check=True,
    )  # fmt: skip
    assert ("1 rule files found" in checked.stdout) == complete
    assert ("127.0.0.1:9093" in (tmp_path / "prometheus.yml").read_text()) == complete
    assert (tmp_path / "alertmanager.yml").is_file() == complete
    assert said == ([] if complete else [f"{rules} is missing: there will be no alerts"])


def test_a_program_that_rejects_its_configuration_ends_the_command(tmp_path: Path) -> None:
    put_program(tmp_path, "prometheus", "echo 'unknown flag' >&2; exit 2")
    env = {**os.environ, "PATH": str(tmp_path), "PARLEY_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deploy.cli", "observe"],
        env=env, capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.endswith("prometheus: unknown flag\nprometheus cannot start: see its message above\n")


def test_a_configuration_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "prometheus.yml"
    taken.mkdir()
    with pytest.raises(CannotObserve, match=f"PARLEY_DATA_DIR: {taken}: Is a directory"):
        observe.write_configuration(tmp_path, Settings(), {PROMETHEUS: 9090}, lambda _: None)
