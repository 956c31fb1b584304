"""The control socket of `parley up`: other commands on this machine ask it for its broker, or to replace its services.

It belongs to the user who runs `parley up`: folder 0700, socket 0600. A request is one line. The answer is lines of
text, of which the last one begins with `ok` or `failed`.
"""

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from deploy.local.supervised import Reporter
from shared.settings import Settings

ANSWER_S = 10.0
"""Time for the first line of an answer."""
LONGEST_LINE_BYTES = 64 * 1024

Say = Callable[[str], None]
Command = Callable[[Say], Awaitable[str]]
"""Does what was asked, and returns the last line, without its `ok`. `Say` sends a line before that."""


class NotRunning(RuntimeError):
    """No `parley up` answers on this machine. The message says what to do."""


class Refused(RuntimeError):
    """What was asked could not be done. The message says why."""


def socket_path(port: int) -> Path:
    """The socket of the `parley up` whose edge listens on this port. Its folder may not exist yet."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return base / f"parley_control-{os.getuid()}" / f"{port}.sock"


async def answer_commands(port: int, commands: Mapping[str, Command], reporter: Reporter) -> None:
    """Answer requests for these commands, until cancelled. Without a socket it says why, and returns."""
    try:
        async with _listening(port, commands):
            await asyncio.Event().wait()
    except OSError as error:
        reporter.say(f"other commands cannot reach this Parley: {error}")


@asynccontextmanager
async def _listening(port: int, commands: Mapping[str, Command]) -> AsyncIterator[None]:
    # An existing socket belongs to a `parley up` that was killed: this one has claimed the port.
    path = socket_path(port)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    found = path.parent.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise PermissionError(f"{path.parent} belongs to somebody else, or others may enter it: remove it")
    path.unlink(missing_ok=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: str) -> None:
            writer.write(line.encode() + b"\n")

        try:
            async with asyncio.timeout(ANSWER_S):
                request = (await reader.readline()).decode(errors="replace").strip()
            if request not in commands:
                say(f"failed there is no command {request[:40]!r}")
            else:
                say(f"ok {await commands[request](say)}")
        except (Refused, TimeoutError) as error:
            say(f"failed {error}")
        finally:
            with suppress(OSError):
                await writer.drain()
            writer.close()

    server = await asyncio.start_unix_server(answer, path, limit=LONGEST_LINE_BYTES)
    path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        with suppress(OSError):  # another `parley up` uses the folder, too
            path.parent.rmdir()


async def ask(port: int, command: str, say: Say = lambda line: None, *, timeout_s: float | None = ANSWER_S) -> str:
    """Ask the `parley up` of this port. Returns the last line of its answer; `say` takes the others.

    Raises:
        NotRunning: no `parley up` answers.
        Refused: it could not do it.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(socket_path(port), limit=LONGEST_LINE_BYTES)
            try:
                writer.write(command.encode() + b"\n")
                while line := (await reader.readline()).decode(errors="replace").rstrip("\n"):
                    word, _, rest = line.partition(" ")
                    if word == "ok":
                        return rest
                    if word == "failed":
                        raise Refused(rest)
                    say(line)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise NotRunning(f"no `parley up` answers for port {port} on this machine: {error or 'it is silent'}") from None
    raise NotRunning(f"the `parley up` of port {port} ended before it had answered")


async def broker_url(settings: Settings) -> str:
    """Return the URL of the broker in use: that of the settings, or that of the `parley up` of this machine.

    Raises:
        NotRunning: neither is known.
    """
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    try:
        return await ask(settings.port, "broker")
    except NotRunning as error:
        raise NotRunning(f"{error}. For a broker elsewhere, set PARLEY_REDIS_URL") from None
