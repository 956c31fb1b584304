"""Some servers start a reply again instead of continuing it: take what they repeat out. Pure."""

from collections.abc import Iterator, Sequence

from shared.protocol.session import ToolCall


class RepeatedPrefix:
    """Removes the prefix from the beginning of a reply: some servers start the reply again instead of continuing it."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._ends_with_space = prefix.rstrip(), prefix[-1:].isspace()
        self._held = ""  # the same as the beginning of the prefix so far

    def drop(self, pieces: Sequence[str | ToolCall]) -> Iterator[str | ToolCall]:
        for piece in pieces:
            if self._prefix and isinstance(piece, str):
                self._held += piece
                again = self._held.lstrip()  # a server that starts again may start with a space
                if self._prefix.startswith(again):
                    continue
                rest = again.removeprefix(self._prefix) if again.startswith(self._prefix) else self._held
                piece = rest.lstrip() if self._ends_with_space else rest  # noqa: PLW2901
                self._prefix = ""
            if piece:
                yield piece

    def finish(self) -> Iterator[str]:
        """Yield what was held back: the reply ended before it had repeated all of the prefix."""
        if self._prefix and self._held and self._held != self._prefix:
            yield self._held
