"""Tables for the terminal and for files."""

from typing import TextIO

from rich.console import Console
from rich.table import Table

WIDTH = 140
"""Columns of a file or a pipe."""


def open_console(file: TextIO, width: int = WIDTH) -> Console:
    """Write to a terminal at its own width, and to anything else at a width at which the tables fit."""
    return Console(file=file, highlight=False, width=None if file.isatty() else width)


def new_table(title: str, *headings: str) -> Table:
    """A table without lines, numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
