"""What a running program prints, for tests that wait for a line of it."""

import re
import subprocess
import threading

from tests.support.waiting import HANG_S


class Output:
    """Everything that a process prints, read by a thread so that the process is never held up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def until(self, pattern: str, timeout_s: float = HANG_S) -> re.Match[str]:
        def find() -> re.Match[str] | None:
            return re.search(pattern, self.text)

        with self._changed:
            assert self._changed.wait_for(lambda: find() or self._over, timeout_s), f"no {pattern!r}:\n{self.text}"
        found = find()
        assert found, f"ended without {pattern!r}:\n{self.text}"
        return found

    def close(self) -> None:
        self._reader.join()
