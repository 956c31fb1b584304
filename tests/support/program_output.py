"""Programs that tests run: what they print, and whether they end."""

import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.waiting import HANG_S

PARLEY = (sys.executable, "-P", "-m", "deploy.cli")


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


@contextmanager
def parley_up(environ: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], Output]]:
    """Run `parley up`; kill it at the end."""
    command = [*PARLEY, "up"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output = Output(process)
        try:
            yield process, output
        finally:
            process.kill()
            output.close()


def ended(pid: int) -> bool:
    """Whether the process ends within ten seconds. It may remain a zombie: an init process can take seconds to reap it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 10)[0])
    finally:
        os.close(handle)
