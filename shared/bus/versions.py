"""The oldest brokers that Parley runs on."""

from shared.bus.connection import BrokerRefused, RedisConnection

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


async def check_version(connection: RedisConnection) -> str:
    """Name and version of the server.

    Raises:
        BrokerRefused: it is older than what Parley needs.
    """
    text = (await connection.call("INFO", "server")).decode()
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    valkey = info.get("valkey_version")
    name, version, least = (
        ("Valkey", valkey, OLDEST_VALKEY) if valkey else ("Redis", info.get("redis_version", "0"), OLDEST_REDIS)
    )
    if tuple(int(part) for part in version.split(".")[:2]) < least:
        raise BrokerRefused(f"{name} {version} is too old: Redis >= 7.0 or Valkey >= 7.2 is needed")
    return f"{name} {version}"
