"""The wheel: what is in it, and the command that runs from it without a checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from deploy.local.observe import ROUTES, RULES
from tests.support.system import CLASSIC
from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[2]
FOLDERS = ("agents", "shared", "services", "deploy", "dashboards", "benchmarks", "tests")
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build in the checkout would leave files there, and take up those of earlier ones."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    command = (sys.executable, "-W", "error::UserWarning", "-c", BUILD, str(out))
    built = subprocess.run(command, check=False, cwd=copy, capture_output=True, text=True, timeout=HANG_S)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, as in site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def parley(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the packages in this folder, from another folder."""
    module, _, function = PROJECT["scripts"]["parley"].partition(":")
    command = (sys.executable, "-c", f"from {module} import {function}; {function}()", *arguments)
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(folder), "COLUMNS": "200"} | CLASSIC
    return subprocess.run(command, check=False, cwd="/", env=env, capture_output=True, text=True, timeout=HANG_S)


def files_of(*folders: str) -> set[str]:
    """The files of the checkout's folders, without caches."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts}


def test_it_has_what_runs_parley_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"shared", "services", "deploy", "dashboards"}
    assert {name for name in names if name.startswith("dashboards/")} == files_of("dashboards/built")
    expected = {name for name in files_of("shared", "services", "deploy") if name.endswith((".py", ".toml"))}
    expected |= files_of("services/edge/web", "deploy/alertmanager")
    assert not expected - names, "missing"
    shipped = {path.name for path in (ROOT / "agents").glob("*.toml")}
    assert {Path(name).name for name in names if name.startswith("shared/agents/shipped/")} == shipped


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
        licences = {one.rpartition("/")[2] for one in archive.namelist() if ".dist-info/licenses/" in one}
    assert (metadata["Name"], metadata["Version"]) == ("parley-voice", PROJECT["version"])
    assert (metadata["License-Expression"], metadata["Author"]) == ("Apache-2.0", "The Parley developers")
    assert licences == {"LICENSE", "NOTICE"}


def test_the_command_runs_without_a_checkout(installed: Path) -> None:
    assert parley(installed, "--version").stdout == f"{PROJECT['version']}\n"
    config = parley(installed, "config")
    assert config.returncode == 0, config.stderr
    assert "PARLEY_REDIS_URL" in config.stdout
    doctor = parley(installed, "doctor")
    assert "✓ tts engine: espeak" in doctor.stdout, doctor.stdout + doctor.stderr
    assert not doctor.stderr


def test_the_shipped_agents_are_found_without_a_checkout(installed: Path) -> None:
    listed = parley(installed, "agents", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [agent["id"] for agent in json.loads(listed.stdout)["agents"]] == ["assistant", "captain", "host"]
    assert str(installed / "shared/agents/shipped/captain.toml") in listed.stdout


def test_benchmarks_are_a_command_of_the_checkout_only(installed: Path) -> None:
    assert "bench" not in parley(installed, "--help").stdout
    assert parley(ROOT, "bench", "--help").returncode == 0


def test_the_files_that_the_command_reads_are_in_it(installed: Path) -> None:
    for file in (RULES, ROUTES):
        assert (installed / file.relative_to(ROOT)).is_file()
