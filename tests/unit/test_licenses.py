"""Licences: each direct dependency is in the table, and what is under a GPL is named so."""

import hashlib
import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

from shared.engines.catalog import CatalogModel, catalog

ROOT = Path(__file__).parents[2]
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
PACKAGES, _, MODELS = (ROOT / "docs/licenses.md").read_text().partition("\n## Models\n")
ROWS = {row[1]: row[0] for row in re.finditer(r"^\| `([\w.-]+)` \|.*$", PACKAGES, re.MULTILINE)}
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


@pytest.mark.parametrize("model", catalog().values(), ids=lambda model: model.name)
def test_each_model_of_the_catalogue_is_in_the_table_with_its_licence(model: CatalogModel) -> None:
    row = next((line for line in MODELS.splitlines() if line.startswith("| ") and f"`{model.name}`" in line), "")
    assert model.licence in row
    assert ("NC" in model.licence) <= ("no commercial use" in row)
