"""A process that has imported all services and waits to become one of them: after a death the caller waits only for the start.

To import the modules takes 0.6 to 1.4 s of CPU, which is most of the time that a service needs to be ready again.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from signal import SIGKILL

from deploy.local.process import Running, run_program

PAUSE_S = 1.0
"""A new standby is started this long after the last one was used: first the service that it became takes the CPU."""
STANDBY = "standby"
OURS = "PARLEY_"
READY = b"+"
LONGEST_ORDER = 65_536
"""Bytes. A larger environment could fill the socket; such a service starts as usual."""
FDS = 8
STDERR = 2


def service_argv(name: str) -> tuple[str, ...]:
    """Return the command that runs a service, or a standby if `name` is `standby`."""
    # -P: do not import from the current folder, which may contain a `shared` or `deploy` of another project.
    return (sys.executable, "-P", "-m", "deploy.local.service", name)


class Standby:
    """Keeps one process in readiness. A second death within seconds is a usual start."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ`: the environment of the services."""
        self._environ = _foreign(environ)
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._process: Running | None = None
        self._control: socket.socket | None = None
        """To the process, once it is in readiness."""

    @property
    def pid(self) -> int | None:
        """The process in readiness; None while it starts."""
        return self._process.pid if self._control is not None and self._process is not None else None

    async def run(self, up: asyncio.Event) -> None:
        """Keep a standby until cancelled, from when all services are `up`."""
        await up.wait()
        while True:
            await self._allowed.wait()
            await self._keep_one()
            await asyncio.sleep(PAUSE_S)

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], fds: Sequence[int], output: int) -> Running:
        """Start a service, from the standby if it is in readiness and can become that service. See `Launch`.

        Raises:
            OSError: the program cannot be started.
        """
        control, standby = self._control, self._process
        if control is not None and standby is not None and self._fits(argv, env):
            order = json.dumps({"service": argv[-1], "env": dict(env), "fds": [1, 2, *fds]}).encode() + b"\n"
            if len(order) <= LONGEST_ORDER:
                self._control = self._process = None
                with suppress(OSError):  # it has just died
                    socket.send_fds(control, [order], [output, output, *fds])
                    return standby
        return await run_program(argv, env, fds, output)

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Keep no standby meanwhile: a new release is being installed, and it has imported the old one."""
        self._allowed.clear()
        self._control = None
        if self._process is not None:
            _kill(self._process)
        try:
            yield
        finally:
            self._allowed.set()

    def _fits(self, argv: Sequence[str], env: Mapping[str, str]) -> bool:
        return tuple(argv) == service_argv(argv[-1]) and _foreign(env) == self._environ

    async def _keep_one(self) -> None:
        """Start a standby. Return when it was used, or has ended."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                fd = theirs.fileno()
                argv = (*service_argv(STANDBY), str(fd))
                standby = await run_program(argv, self._environ, (fd,), asyncio.subprocess.DEVNULL)
            self._process = standby
            try:
                if await loop.sock_recv(ours, 1) == READY and self._process is standby:
                    self._control = ours
                    await loop.sock_recv(ours, 1)  # it closes its end when it is used, or dies
            except ConnectionError:
                pass
            finally:
                if self._process is standby:  # it was not used
                    self._control = self._process = None
                    _kill(standby)
                    await standby.wait()


def become_service(fd: int) -> str:
    """In the standby: wait for the order on this socket, and take over the environment. Returns the service's name.

    Raises:
        SystemExit: the supervisor has ended.
    """
    with socket.socket(fileno=fd) as control:
        control.send(READY)
        order, fds, _, _ = socket.recv_fds(control, LONGEST_ORDER, FDS)
        while order and not order.endswith(b"\n"):
            order += control.recv(LONGEST_ORDER)
    if not order:
        sys.exit(0)
    wanted = json.loads(order)
    for received, number in zip(fds, wanted["fds"], strict=True):
        if received != number:
            os.dup2(received, number, inheritable=number <= STDERR)
            os.close(received)
    os.environ.clear()
    os.environ.update(wanted["env"])
    return str(wanted["service"])


def _kill(process: Running) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, SIGKILL)


def _foreign(environ: Mapping[str, str]) -> dict[str, str]:
    """What libraries and Python may have read when they were imported."""
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}
