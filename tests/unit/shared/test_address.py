"""The broker's address: URLs are read as redis-py reads them, for everyone who knows those."""

import pytest
from redis.asyncio.connection import parse_url as redis_parse_url

from shared.bus.address import broker_address, parse_url
from shared.bus.connection import BrokerRefused
from shared.settings import Settings

URLS = [
    "redis://localhost",
    "redis://10.0.0.5:6380/2",
    "redis://:s%40crt%2F@broker:6379",
    "rediss://anna:secret@broker.example.test:6390/0",
    "redis://[::1]:6379/1",
    "redis://broker?db=3",
    "redis://broker/1?db=3&username=anna&password=a%25b",
    "unix:///run/parley/broker.sock",
    "unix://anna:secret@/run/with%20space/broker.sock?db=4",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_read_as_redis_py_reads_it(url: str) -> None:
    expected, found = redis_parse_url(url), parse_url(url)
    assert (found.path, found.username, found.password) == tuple(
        expected.get(name) for name in ("path", "username", "password")
    )
    assert found.database == int(expected.get("db") or 0)
    encrypted = broker_address(Settings(redis_url=url)).tls is not None
    assert encrypted == url.startswith("rediss")
    if found.path is None:
        assert (found.host, found.port) == (expected.get("host") or "127.0.0.1", int(expected.get("port") or 6379))


@pytest.mark.parametrize("url", ["localhost:6379", "http://broker", "redis://:secret@broker:six", "redis://broker/two"])
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BrokerRefused, match="is not a redis://, rediss:// or unix:// URL") as refused:
        broker_address(Settings(redis_url=url))
    assert "secret" not in str(refused.value)
