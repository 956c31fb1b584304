"""Licences: each direct dependency is in the table, and what is under a GPL is named so."""

import hashlib
import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

from shared.engines.models import DEFAULTS, VOCODER
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
TABLE = (ROOT / "docs/licenses.md").read_text()
ROWS = {row[1]: row[0] for row in re.finditer(r"^\| `([\w.-]+)` \|.*$", TABLE, re.MULTILINE)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def packages() -> dict[str, set[str]]:
    """The direct dependencies by name, each with the extras that it is in."""
    found: dict[str, set[str]] = {}
    for extra, requirements in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items():
        for requirement in requirements:
            found.setdefault(re.split(r"[^\w.-]", requirement)[0], set()).add(extra)
    del found[PROJECT["name"]]
    return found


def test_the_licence_is_the_full_text_of_apache_2() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256


def test_each_direct_dependency_is_in_the_table_and_nothing_else() -> None:
    assert set(ROWS) == set(packages())


def is_installed(name: str) -> bool:
    try:
        metadata(name)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(filter(is_installed, packages())))
def test_an_installed_package_under_a_gpl_is_named_so_in_the_table(name: str) -> None:
    about = metadata(name)
    classifiers = [line for line in about.get_all("Classifier", []) if line.startswith("License")]
    said = " ".join([about["License-Expression"] or "", (about["License"] or "")[:100], *classifiers])
    assert ("GPL" in said) <= ("GPL" in ROWS[name])


def test_each_model_that_is_loaded_by_default_is_in_the_table() -> None:
    named = {model for stages in DEFAULTS.values() for engines in stages.values() for model in engines.values()}
    smart_turn = Settings.model_fields["smart_turn_model"].default.rpartition("/")[0]
    assert not {model for model in named | {VOCODER, smart_turn} if f"`{model}`" not in TABLE}
