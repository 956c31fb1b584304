"""A child process in its own session: its output is read line by line, signals go to its group, and it dies with its parent."""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from signal import SIGKILL, Signals
from typing import Protocol

PR_SET_PDEATHSIG = 1
READ_BYTES = 65536
DRAIN_S = 0.5
"""How long to read on after a process has ended. Another process can keep the pipe open for ever."""


class Running(Protocol):
    """A process of the operating system, as asyncio has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    async def wait(self) -> int:
        """Return its exit code once it has ended; minus the number of the signal that ended it."""


Launch = Callable[[Sequence[str], Mapping[str, str], Sequence[int], int], Awaitable[Running]]
"""Starts a program in a session of its own: arguments, environment, descriptors that it inherits, descriptor of its output."""


class Process:
    """A started process. `wait` is called once."""

    def __init__(self, process: Running, output: asyncio.StreamReader, pipe: asyncio.ReadTransport) -> None:
        self._process = process
        self._output = output
        self._pipe = pipe
        self.pid = process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return self._process.returncode

    def signal(self, number: Signals) -> None:
        """Send a signal to the process and its descendants. Does nothing after it has ended."""
        if self.exit_code is None:
            self._signal_group(number)

    def _signal_group(self, number: Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def wait(self, on_line: Callable[[str], None]) -> None:
        """Pass each line of output to `on_line` until the process ends, then kill its descendants."""
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(on_line))
                await self._process.wait()
                self._signal_group(SIGKILL)
                await asyncio.wait([reading], timeout=DRAIN_S)
                reading.cancel()
        finally:
            self._pipe.close()

    async def _read(self, on_line: Callable[[str], None]) -> None:
        async for line in _lines(self._output):
            on_line(line)


async def run_program(argv: Sequence[str], env: Mapping[str, str], fds: Sequence[int], output: int) -> Running:
    """Start a program. See `Launch`.

    Raises:
        OSError: the program cannot be started.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        pass_fds=fds,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C in the terminal then reaches only the supervisor, which stops the children in order.
        start_new_session=True,
        preexec_fn=_die_with_parent(),
    )


async def start(
    argv: Sequence[str], env: Mapping[str, str], fds: Sequence[int] = (), launch: Launch = run_program
) -> Process:
    """Start a program with stdout and stderr in one pipe. `fds`: descriptors that it inherits.

    Raises:
        OSError: the program cannot be started.
    """
    output = asyncio.StreamReader()
    # Not asyncio's pipe: with it, `wait` returns only after every holder of the other end has closed it.
    read_end, write_end = os.pipe()
    try:
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(read_end, "rb", buffering=0)
        )
        try:
            process = await launch(argv, env, fds, write_end)
        except BaseException:
            pipe.close()
            raise
    finally:
        os.close(write_end)
    return Process(process, output, pipe)


def _die_with_parent() -> Callable[[], None] | None:
    """A function that asks the kernel to kill this process when its parent dies; None where the system cannot do it.

    A parent that is killed with SIGKILL cannot stop its children. Only Linux offers this, and the child itself has to
    ask, between fork and exec. The library is loaded before the fork: loading it afterwards is not safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the request
            os._exit(1)

    return ask


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    # Not readline(): it raises for a line longer than its buffer. Here such a line comes in pieces.
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
    """An exit code in words; None: the process did not start."""
    if code is None:
        return "did not start"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
