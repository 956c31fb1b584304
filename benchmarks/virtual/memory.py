"""Remembers what an engine has computed, in a file of the user's cache: a benchmark asks for the same again and again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Memory:
    """JSON values by key. Several benchmarks may add to the file at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Any] = {}
        if file.is_file():
            self._known = dict(json.loads(line) for line in file.read_text().splitlines())

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the value of a key; it is computed if it is not known."""
        if key not in self._known:
            self._known[key] = compute()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as lines:
                lines.write(json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]
