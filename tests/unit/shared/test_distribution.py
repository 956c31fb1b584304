"""The version, and the message about a part that is missing."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from shared import distribution

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture
def fresh() -> Iterator[None]:
    distribution.version.cache_clear()
    yield
    distribution.version.cache_clear()


@pytest.fixture
def not_there(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed_version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(distribution, "installed_version", installed_version)


@pytest.mark.usefixtures("fresh")
def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "installed_version", lambda name: f"1.2.3 of {name}")
    assert distribution.version() == "1.2.3 of parley-voice"


@pytest.mark.usefixtures("not_there")
def test_in_a_checkout_it_is_that_of_pyproject() -> None:
    assert distribution.version() == tomllib.loads(PYPROJECT.read_text())["project"]["version"]


@pytest.mark.usefixtures("not_there")
def test_elsewhere_it_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(distribution, "_ROOT", tmp_path)
    assert distribution.version() == "unknown"


def test_the_name_is_that_of_pyproject() -> None:
    assert tomllib.loads(PYPROJECT.read_text())["project"]["name"] == distribution.NAME


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    message = distribution.not_installed("The kokoro engine", "neural", "kokoro")
    assert message == "The kokoro engine is not installed (missing: kokoro). Run: make install PROFILE=neural"
    assert distribution.not_installed("jiwer", "bench") == ("jiwer is not installed. Run: make install EXTRAS=bench")
