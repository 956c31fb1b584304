"""One child process: started in a session of its own, tied to our life, heard line by line, signalled as a group."""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from signal import SIGKILL, Signals

PR_SET_PDEATHSIG = 1
READ_BYTES = 65536
DRAIN_S = 0.5
"""How long a dead process's last words are waited for: someone else may hold the pipe open for ever."""


class Process:
    """A started process. `wait` is called once."""

    def __init__(
        self, process: asyncio.subprocess.Process, output: asyncio.StreamReader, pipe: asyncio.ReadTransport
    ) -> None:
        self._process = process
        self._output = output
        self._pipe = pipe
        self.pid = process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    def signal(self, number: Signals) -> None:
        """Signal it and whatever it started. Nothing happens if it is gone."""
        if self.exit_code is None:
            self._signal_group(number)

    def _signal_group(self, number: Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def wait(self, heard: Callable[[str], None]) -> None:
        """Until it ends, and whatever it started is ended; every line that it writes is handed to `heard`."""
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(heard))
                await self._process.wait()
                self._signal_group(SIGKILL)
                await asyncio.wait([reading], timeout=DRAIN_S)
                reading.cancel()
        finally:
            self._pipe.close()

    async def _read(self, heard: Callable[[str], None]) -> None:
        async for line in _lines(self._output):
            heard(line)


async def start(argv: Sequence[str], env: Mapping[str, str]) -> Process:
    """Start a program; stdout and stderr are one.

    Raises:
        OSError: it cannot be started.
    """
    output = asyncio.StreamReader()
    # A pipe of our own: asyncio's would let `wait` return only when nobody holds the other end any more.
    ours, its = os.pipe()
    try:
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(ours, "rb", buffering=0)
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C in the terminal reaches us alone, and we stop the children in order.
                start_new_session=True,
                preexec_fn=_tether(),
            )
        except BaseException:
            pipe.close()
            raise
    finally:
        os.close(its)
    return Process(process, output, pipe)


def _tether() -> Callable[[], None] | None:
    """What makes the kernel kill the child when we die, however we die: kill -9 leaves us no last word.

    Only the child itself can ask for that, between fork and exec, and only Linux knows it. The library is
    loaded before the fork, where loading is still safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # we died before the kernel knew
            os._exit(1)

    return tie


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    # Not readline(): a line longer than its buffer is an error there, and comes in pieces here.
    rest = b""
    while chunk := await reader.read(READ_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if len(rest) > READ_BYTES:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")


def describe_exit(code: int | None) -> str:
    """How it ended, in words; None: it never started."""
    if code is None:
        return "did not start"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
