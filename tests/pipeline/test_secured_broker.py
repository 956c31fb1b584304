"""The whole system with a broker that takes only TLS and one user for each role: all works, and nothing else is allowed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio as redis
from redis.exceptions import NoPermissionError

from deploy.local.dead import list_dead
from deploy.local.doctor import check_broker
from deploy.local.supervised import ServiceSpec
from shared.bus.acl import COMMANDS
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.settings import STAGES, Settings
from tests.conftest import need
from tests.support.caller import calling
from tests.support.secured_broker import SecuredBroker, secured_broker
from tests.support.system import SCRIPTED, running_system, settings_of

FORBIDDEN: list[tuple[str | int, ...]] = [
    ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("SCAN", 0), ("CONFIG", "GET", "maxmemory"), ("SHUTDOWN",),
    ("ACL", "LIST"), ("CLIENT", "LIST"), ("MONITOR",), ("SCRIPT", "FLUSH"), ("MODULE", "LIST"), ("REPLICAOF", "NO", "ONE"),
    ("SET", "other", "1"), ("GET", "other"), ("XADD", "other", "*", "f", "v"), ("EVAL", "return redis.call('KEYS', '*')", 0),
]  # fmt: skip

REFUSED = r"(?i)no permission|ACL failure|can't run this command"


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SecuredBroker]:
    async with secured_broker(tmp_path, need("redis-server"), need("openssl")) as running:
        yield running


def settings(broker: SecuredBroker, role: str, **changes: str) -> Settings:
    return settings_of({**broker.environment(role), **changes})


def client(broker: SecuredBroker, role: str) -> "redis.Redis[str]":
    files = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
    paths = {option: str(broker.folder / file) for option, file in files.items()}
    return redis.Redis.from_url(broker.environment(role)["PARLEY_REDIS_URL"], protocol=2, **paths)


async def test_every_service_has_a_user_and_all_works(
    broker: SecuredBroker, speech_pcm: Callable[[str, int], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    def secured(spec: ServiceSpec) -> ServiceSpec:
        if spec.name not in COMMANDS:
            return spec
        return replace(spec, env={**spec.env, **broker.environment(spec.name)})

    async with running_system(SCRIPTED, secured) as server, calling(server.url) as caller:
        await caller.speak(speech_pcm("hello there", 16_000), silence_s=0.7)
        await caller.until("reply_done", turn=1, status="completed")
        pids = server.pids
        for stage in STAGES:  # its successor takes over what it held
            os.kill(server.pids[stage], signal.SIGKILL)
        await caller.send("text_input", text="go on")
        await caller.until("reply_done", turn=2, status="completed")
        assert {name for name, pid in server.pids.items() if pids[name] != pid} == set(STAGES)
        assert (await check_broker(settings(broker, "doctor"), {})).outcome == "ok"
        assert await asyncio.to_thread(list_dead, settings(broker, "doctor"), None, as_json=False) == 0
    assert "no dead letters" in capsys.readouterr().out
    assert not [line for line in server.journal.lines if "NOPERM" in line]


async def test_no_role_may_do_more(broker: SecuredBroker) -> None:
    for role in COMMANDS:
        async with client(broker, role) as connected:
            assert await connected.get("parley:test") is None
            for command in FORBIDDEN:
                with pytest.raises((NoPermissionError, redis.ResponseError), match=REFUSED):
                    await connected.execute_command(*command)


async def test_a_wrong_password_certificate_or_authority_is_said(broker: SecuredBroker) -> None:
    async def connect(**changes: str) -> None:
        async with Bus.connect(settings(broker, "edge", **changes), "edge"):
            pass

    with pytest.raises(ExceptionGroup) as raised:
        await connect(PARLEY_REDIS_URL=f"rediss://edge:wrong@127.0.0.1:{broker.port}")
    assert raised.group_contains(BrokerRefused, match="WRONGPASS")
    with pytest.raises(BrokerRefused, match="PARLEY_REDIS_CA_FILE"):
        await connect(PARLEY_REDIS_CA_FILE=str(broker.folder / "missing.pem"))
    with pytest.raises(BrokerRefused, match="PARLEY_REDIS_CERT_FILE"):
        await connect(PARLEY_REDIS_CERT_FILE=str(broker.folder / "users.acl"))
    with pytest.raises(BrokerRefused, match="rediss://"):
        await connect(PARLEY_REDIS_URL="redis://127.0.0.1:6379")
    with pytest.raises(ExceptionGroup) as raised:
        await connect(PARLEY_REDIS_CA_FILE=str(broker.folder / "client.pem"))
    assert raised.group_contains(BrokerGone, match="CERTIFICATE_VERIFY_FAILED")
