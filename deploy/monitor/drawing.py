"""Draws tables, and the waterfall of a turn as text. Pure."""

from collections.abc import Sequence

from rich.table import Table

BAR_CELLS = 40

Part = tuple[str, float, float]
"""A part of a turn: name, begin and end in ms."""


def new_table(*headings: str) -> Table:
    """A table without lines. A heading that begins with `>` aligns its column to the right."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(
            heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True
        )
    return table


def waterfall(parts: Sequence[Part], cells: int = BAR_CELLS) -> list[str]:
    """A line for each part: its name, its end, and a bar from its begin to its end. All bars have the same scale."""
    scale = cells / max([1.0, *(end_ms for _, _, end_ms in parts)])
    return [
        f"{name.replace('_', ' '):<15}{end_ms:7.0f} ms  {bar(begin_ms * scale, end_ms * scale)}"
        for name, begin_ms, end_ms in parts
    ]


def bar(begin: float, end: float) -> str:
    """A bar between two columns; a thin mark if they are less than one column apart."""
    first, last = round(max(0.0, begin)), round(max(0.0, end))
    return " " * first + ("▇" * (last - first) or "▏")


def marked_parts(marks: dict[str, float]) -> list[Part]:
    """Turn marks into parts: each lasts from the mark before it to its own. `marks` are ms since the end of speech."""
    parts, before_ms = [], 0.0
    for name, at_ms in sorted(marks.items(), key=lambda mark: mark[1]):
        parts.append((name, before_ms, at_ms))
        before_ms = max(before_ms, at_ms)
    return parts
