"""Starts services as forks of a process that has imported them: real processes, without the CPU of their imports.

`python -m tests.support.fork_server FD` is that process. It imports all services, starts no thread, and forks whenever a message
comes on the socket FD: JSON with the service, its environment and the numbers of its descriptors, together with the
socket for its exit code, its output and those descriptors. It ends with the socket, and its forks with it.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from deploy.local import service
from deploy.local.process import PR_SET_PDEATHSIG, Running, run_program
from shared.settings import load_settings

ROOT = Path(__file__).parents[2]
SERVICES = ("vad", "asr", "llm", "tts", "edge")
OF_A_SERVICE = (sys.executable, "-P", "-m", service.__name__)
"""What `parley up` runs, followed by the name of the service."""
ENGINES = ("services.vad.engines.webrtc", "services.asr.engines.scripted", "tests.support.engines")
MESSAGE_BYTES = 1 << 20
MOST_FDS = 16
ABOVE = 500
"""Descriptors are moved above this number, and then to where they belong."""


class ForkServer:
    """The process that forks, started when it is first needed. Use it as `launch` of `deploy.local.process.start`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._control.close()
            self._process.wait()

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], fds: Sequence[int], output: int) -> Running:
        """Fork a service; another program is run as usual."""
        *program, name = argv
        if tuple(program) != OF_A_SERVICE:
            return await run_program(argv, env, fds, output)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"service": name, "env": dict(env), "fds": list(fds)}).encode()
        ours.setblocking(False)
        try:
            with theirs:
                socket.send_fds(self._started(), [request], [theirs.fileno(), output, *fds])
            pid = int(await asyncio.get_running_loop().sock_recv(ours, 100))
        except BaseException:
            ours.close()
            raise
        return _Fork(pid, ours.detach())

    def _started(self) -> socket.socket:
        with self._lock:
            if self._process is None:
                self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._process = subprocess.Popen(
                        (sys.executable, "-P", "-m", __name__, str(theirs.fileno())),
                        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                        pass_fds=(theirs.fileno(),),
                        start_new_session=True,  # Ctrl-C in the terminal is for the supervisors
                    )
            return self._control


class _Fork:
    """A process that was forked; its exit code comes through the socket."""

    def __init__(self, pid: int, ended: int) -> None:
        """`ended`: the descriptor of that socket."""
        self.pid = pid
        self.returncode: int | None = None
        self._over = asyncio.Event()
        self._ended = ended
        # Also where a supervisor is cancelled, and its event loop is closed before the end of a fork that it has killed.
        self._close = weakref.finalize(self, os.close, ended)
        asyncio.get_running_loop().add_reader(ended, self._on_end)

    def _on_end(self) -> None:
        code = os.read(self._ended, 100)
        asyncio.get_running_loop().remove_reader(self._ended)
        self._close()
        self.returncode = int(code) if code else -signal.SIGKILL  # else it ended together with the server
        self._over.set()

    async def wait(self) -> int:
        await self._over.wait()
        assert self.returncode is not None
        return self.returncode


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in SERVICES:
        import_module(f"services.{name}.__main__")
    for name in ENGINES:
        import_module(name)
    assert threading.active_count() == 1, "a thread does not survive a fork"
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    forks: dict[int, socket.socket] = {}
    sources: list[socket.socket | int] = [control, woken]
    while True:
        readable, _, _ = select.select(sources, [], [])
        if woken in readable:
            os.read(woken, 100)
            _tell_of_the_dead(forks)
        if control in readable:
            message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, MOST_FDS)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                for one in (control, *forks.values()):
                    one.detach()  # their descriptors are closed with all others
                _become(json.loads(message), *fds)
                sys.exit(service.main())
            forks[pid] = socket.socket(fileno=fds[0])
            for fd in fds[1:]:
                os.close(fd)


def _tell_of_the_dead(forks: dict[int, socket.socket]) -> None:
    while forks:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with forks.pop(pid) as ended:
            try:
                ended.send(str(os.waitstatus_to_exitcode(status)).encode())
            except OSError:
                pass  # nobody asks any more


def _become(wanted: dict[str, Any], asked: int, *given: int) -> None:
    """Make this fork what a new process with this environment, output and descriptors would be, and tell its id."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.write(asked, str(os.getpid()).encode())  # from now on signals reach it
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, ABOVE) for fd in given]
    os.closerange(3, ABOVE)
    for fd, number in zip(moved, [1, *wanted["fds"]], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.dup2(1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.argv = [service.__name__, wanted["service"]]
    load_settings.cache_clear()


if __name__ == "__main__":
    main()
