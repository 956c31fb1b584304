"""Draws the waterfall of a turn as text. Pure."""

from collections.abc import Sequence

BAR_CELLS = 40

Part = tuple[str, float, float]
"""A part of a turn: name, begin and end in ms."""


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
