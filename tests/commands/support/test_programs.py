"""`make test` on a fresh machine: root gets the programs installed, anybody else sees which are missing."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "programs.sh"
PROGRAMS = ("chromium", "chromedriver", "redis-server", "prometheus", "promtool", "prometheus-alertmanager", "amtool")
INSTALL = "--no-install-recommends chromium chromium-driver redis-server prometheus prometheus-alertmanager"


class Machine:
    """A folder with every program that the script can find. Those of the system write down how they are called."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._calls = folder, folder / "calls.txt"
        self._calls.touch()

    def add(self, name: str, does: str = "") -> None:
        program = self._folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._calls}\n{does}\n')
        program.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", SCRIPT], env={"PATH": str(self._folder)}, capture_output=True, text=True, check=True
        )

    def calls(self, *names: str) -> list[str]:
        return [call for call in self._calls.read_text().splitlines() if call.startswith(names)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for name in ("apt-get", "service", "systemctl", "sudo"):
        machine.add(name)
    machine.add("id", "echo 1000")
    return machine


def test_root_gets_them_and_their_services_are_stopped(machine: Machine) -> None:
    machine.add("id", "echo 0")
    done = machine.run()
    assert machine.calls("apt-get") == ["apt-get update -qq", f"apt-get install -y -qq {INSTALL}"]
    assert "Installing programs that the tests need: chromium" in done.stdout
    stopped = {word for call in machine.calls("service", "systemctl") for word in call.split()}
    assert stopped >= {"redis-server", "prometheus", "prometheus-alertmanager"}


def test_services_that_ran_before_go_on(machine: Machine) -> None:
    machine.add("id", "echo 0")
    for name in PROGRAMS[2:]:
        machine.add(name)
    machine.run()
    assert machine.calls("apt-get install") == [
        "apt-get install -y -qq --no-install-recommends chromium chromium-driver"
    ]
    assert machine.calls("service", "systemctl") == []


def test_a_user_is_told_what_is_missing_and_how_to_install_it(machine: Machine) -> None:
    done = machine.run()
    assert f"sudo apt-get install {INSTALL}" in done.stderr
    assert "The tests that need them are skipped." in done.stderr
    assert machine.calls("apt-get", "sudo", "service", "systemctl") == []


def test_without_apt_the_names_are_shown(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    done = machine.run()
    assert "Not installed: chromium chromium-driver redis-server" in done.stderr


def test_where_all_are_there_nothing_is_said_or_done(machine: Machine) -> None:
    machine.add("id", "echo 0")
    for name in PROGRAMS:
        machine.add(name)
    done = machine.run()
    assert (done.stdout, done.stderr) == ("", "")
    assert machine.calls("apt-get", "service", "systemctl") == []


def test_an_installation_that_fails_ends_make(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("apt-get", "exit 100")
    with pytest.raises(subprocess.CalledProcessError):
        machine.run()
