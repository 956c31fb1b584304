"""What the Markdown files name exists: paths, make targets, extras. And no text advises to install another project."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from shared.distribution import Extra

ROOT = Path(__file__).parents[2]
FOLDERS = ("shared", "services", "deploy", "dashboards", "benchmarks", "tests", "docs")
PAGES = sorted(
    (path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))),
    key=str,
)
HISTORY = Path("CHANGELOG.md")
"""It names what was there at the time."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

INLINE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
A_PATH = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]*")
MAKE = re.compile(r"\bmake ([a-z][a-z-]+)")
ADVICE = re.compile(r"pip install (?:\S+ )*?['\"]?parley(?![\w-])|(?<!-)\bparley\[")
INSTALLS = re.compile(r"make install EXTRAS=([\w,]+)")


def code(text: str) -> Iterator[str]:
    """The pieces of a page that are code: fenced blocks and what is in backticks."""
    yield from FENCE.findall(text)
    yield from INLINE.findall(FENCE.sub("", text))


def test_each_line_of_the_threat_model_names_its_tests() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][1:]
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert rows
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= tests, set(named) - tests


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def own_texts() -> Iterator[Path]:
    """The repository's files that people read or run."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and not path.is_symlink())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {"", ".md", ".py", ".toml", ".yaml", ".yml", ".html", ".js"}:
                yield path


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=str)
def test_each_path_that_a_page_names_exists(page: Path) -> None:
    text = (ROOT / page).read_text()
    words = (word for piece in code(text) for word in piece.split())
    paths = {found[0].rstrip(".") for word in words if (found := A_PATH.match(word))}
    assert not sorted(path for path in paths if not any(ROOT.glob(path.rstrip("/")))), f"{page} names them"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_link_between_pages_leads_somewhere(page: Path) -> None:
    links = {link.partition("#")[0] for link in LINK.findall((ROOT / page).read_text()) if "://" not in link}
    assert not sorted(link for link in links if link and not (ROOT / page.parent / link).exists())


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_make_target_that_a_page_names_exists(page: Path) -> None:
    named = {target for piece in code((ROOT / page).read_text()) for target in MAKE.findall(piece)}
    assert not sorted(named - targets())


def test_each_extra_that_a_text_names_exists() -> None:
    named = {
        (extra, str(path.relative_to(ROOT)))
        for path in own_texts()
        for extras in INSTALLS.findall(path.read_text(errors="replace"))
        for extra in extras.split(",")
    }
    assert named
    assert not sorted((extra, path) for extra, path in named if extra not in EXTRAS)
    assert set(get_args(Extra)) <= set(EXTRAS)


def test_no_text_advises_to_install_parley_from_an_index() -> None:
    """There, `parley` is another project."""
    texts = (path for path in own_texts() if path != Path(__file__))
    assert not [str(path.relative_to(ROOT)) for path in texts if ADVICE.search(path.read_text(errors="replace"))]


def test_the_makefile_knows_which_extras_need_torch() -> None:
    (listed,) = re.findall(r"^NEURAL_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    def needs_torch(extra: str) -> bool:
        own = {re.split(r"[^\w-]", requirement)[0]: requirement for requirement in EXTRAS[extra]}
        others = re.findall(r"[\w-]+", own.get("parley-voice", "").partition("[")[2])
        return "torch" in own or any(map(needs_torch, others))

    assert set(listed.split()) == {extra for extra in EXTRAS if needs_torch(extra)} - {"dev"}
