"""Which brokers are new enough."""

from typing import Any

import pytest

from shared.bus.connection import BrokerRefused
from shared.bus.versions import check_version


class Server:
    """Answers INFO."""

    def __init__(self, **fields: str) -> None:
        lines = ["# Server", *(f"{name}:{value}" for name, value in fields.items()), ""]
        self._info = "\r\n".join(lines).encode()

    async def call(self, *command: Any) -> bytes:
        assert command == ("INFO", "server")
        return self._info


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"redis_version": "7.0.0"}, "Redis 7.0.0"),
        ({"redis_version": "10.1"}, "Redis 10.1"),
        (
            {"redis_version": "7.2.4", "valkey_version": "7.2.5"},
            "Valkey 7.2.5",
        ),  # what Valkey claims to be for old clients
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0-rc1"}, "Valkey 8.1.0-rc1"),
    ],
)
async def test_a_broker_that_is_new_enough_is_named(fields: dict[str, str], name: str) -> None:
    assert await check_version(Server(**fields)) == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, "Valkey 7.1.9"),
        ({}, "Redis 0"),
    ],
)
async def test_an_older_one_is_refused_by_name(fields: dict[str, str], name: str) -> None:
    with pytest.raises(BrokerRefused, match=f"{name} is too old: Redis >= 7.0 or Valkey >= 7.2"):
        await check_version(Server(**fields))  # type: ignore[arg-type]
