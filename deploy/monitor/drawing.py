"""Draws tables, and the waterfall of a turn as text. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from shared.protocol.turn_record import SEGMENTS

BAR_CELLS, FEWEST_CELLS = 40, 10
LEFT_OF_BAR = 45
"""Columns of a line of a waterfall, without its bar; a mark at the end of the time axis takes one of them."""


def new_table(*headings: str) -> Table:
    """A table without lines. A heading that begins with `>` aligns its column to the right."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(
            heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True
        )
    return table


def waterfall(segments: Sequence[Mapping[str, Any]], columns: int = LEFT_OF_BAR + BAR_CELLS) -> list[str]:
    """A line for each segment of a turn: its label, how long it took, when it was done, and its bar.

    All bars are on one time axis, which begins at the end of speech. A segment is a `name` of `SEGMENTS`, `begin_ms` and
    `end_ms`. `columns`: how long a line may be.
    """
    cells = max(FEWEST_CELLS, min(BAR_CELLS, columns - LEFT_OF_BAR))
    scale = cells / max([1.0, *(one["end_ms"] for one in segments)])
    turn_end_ms = next((one["end_ms"] for one in segments if one["name"] == "endpoint"), None)
    lines, any_prepared = [], False
    for one in segments:
        begin_ms, end_ms = one["begin_ms"], one["end_ms"]
        is_prepared = turn_end_ms is not None and one["name"] != "endpoint" and end_ms <= turn_end_ms
        drawn = bar(begin_ms * scale, end_ms * scale)
        any_prepared |= is_prepared
        took_ms = max(0.0, end_ms - begin_ms)
        mark = "*" if is_prepared else " "
        lines.append(f"{label(one['name']):<15}{took_ms:6.0f} ms, done at {end_ms:5.0f} ms{mark} {drawn}".rstrip())
    return [*lines, "* prepared in the silence"] if any_prepared else lines


def label(name: str) -> str:
    """The label of a segment. A server of another version may have others."""
    return SEGMENTS[name].label if name in SEGMENTS else name


def bar(begin: float, end: float) -> str:
    """A bar between two columns; a thin mark if they are less than one column apart."""
    first, last = round(max(0.0, begin)), round(max(0.0, end))
    return " " * first + ("▇" * (last - first) or "▏")
