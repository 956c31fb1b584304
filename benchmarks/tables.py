"""Tables for the terminal and for files."""

from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

WIDTH = 140
"""Columns of a file or a pipe."""


def open_console(file: TextIO, width: int = WIDTH) -> Console:
    """Write to a terminal at its own width, and to anything else at a width at which the tables fit."""
    return Console(file=file, highlight=False, width=None if file.isatty() else width)


def print_rows(title: str, rows: Sequence[Mapping[str, str]], console: Console) -> None:
    """Print a table of rows, each with its cells by heading. A heading that a row does not have is shown as a dash."""
    console.print(f"\n{title}", style="italic", markup=False)
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    table = new_table("", *headings)
    for row in rows:
        table.add_row(*(row.get(heading, "–") for heading in headings))
    console.print(table)


def new_table(title: str, *headings: str) -> Table:
    """A table without lines, numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
