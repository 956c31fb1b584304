"""The fenced blocks of the documentation, and the commands in them."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")
SHELL = frozenset({"sh", "shell", "bash", "console"})

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    """Line of its first fence, from 1."""
    language: str
    """As the fence says; may be empty."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block."""

    text: str
    words: tuple[str, ...]
    """The words of the command itself, without its comment and the assignments before it."""
    assigned: dict[str, str]
    """Variables: those that the block exported before, and the assignments before the command."""


def blocks() -> list[Block]:
    """All blocks of the documentation, page by page."""
    pages = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    return [block for page in pages for block in _of_page(str(page.relative_to(ROOT)), page.read_text())]


def _of_page(page: str, text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["language"].strip(), textwrap.dedent(found["body"]))


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block, but for `export`, which assigns variables to those that follow."""
    exported: dict[str, str] = {}
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue  # output
            line = line.removeprefix("$ ")
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            exported |= dict(_assignments(words[1:]))
        elif words:
            before = dict(_assignments(words))
            yield Command(line.strip(), tuple(words[len(before) :]), exported | before)


def _assignments(words: list[str]) -> Iterator[tuple[str, str]]:
    """Those at the beginning."""
    for word in words:
        found = _ASSIGNMENT.fullmatch(word)
        if not found:
            return
        yield found[1], found[2]
