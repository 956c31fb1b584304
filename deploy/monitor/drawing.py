"""Bars that are drawn in a terminal: the waterfall of a turn. Pure."""

from collections.abc import Sequence

BAR_CELLS = 40

Part = tuple[str, float, float]
"""Name of one part of a turn, and from when to when it went on, in ms."""


def waterfall(parts: Sequence[Part], cells: int = BAR_CELLS) -> list[str]:
    """A line for each part: its name, when it was over, and a bar from its begin to there, all on one scale."""
    scale = cells / max([1.0, *(end_ms for _, _, end_ms in parts)])
    return [
        f"{name.replace('_', ' '):<15}{end_ms:7.0f} ms  {bar(begin_ms * scale, end_ms * scale)}"
        for name, begin_ms, end_ms in parts
    ]


def bar(begin: float, end: float) -> str:
    """Blocks between two columns; a thin one where there is less than a column between them."""
    first, last = round(max(0.0, begin)), round(max(0.0, end))
    return " " * first + ("▇" * (last - first) or "▏")


def marked_parts(marks: dict[str, float]) -> list[Part]:
    """Marks in the order in which they came, each with the time from the one before it; zero is the end of speech."""
    parts, before_ms = [], 0.0
    for name, at_ms in sorted(marks.items(), key=lambda mark: mark[1]):
        parts.append((name, before_ms, at_ms))
        before_ms = max(before_ms, at_ms)
    return parts
