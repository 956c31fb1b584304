"""The broker's INFO, the oldest versions that Parley runs on, and the memory policy that it needs."""

from collections.abc import Mapping

from shared.bus.connection import Address, BrokerRefused, RedisConnection

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


def parse_info(reply: bytes) -> dict[str, str]:
    """Parse the `name:value` lines of an INFO reply."""
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


async def read_info(address: Address) -> dict[str, str]:
    """Connect to a broker, read its INFO, and disconnect. Raises as `RedisConnection.connect` and `call`."""
    connection = await RedisConnection.connect(address, "parley")
    try:
        return parse_info(await connection.call("INFO"))
    finally:
        await connection.end()


def server_version(info: Mapping[str, str]) -> tuple[str, str]:
    """Return the server's name, `Redis` or `Valkey`, and its version; version `0` if INFO does not contain it."""
    if valkey := info.get("valkey_version"):  # Valkey reports a redis_version, too
        return "Valkey", valkey
    return "Redis", info.get("redis_version", "0")


def eviction_problem(policy: str) -> str:
    """Return what is wrong with the broker's `maxmemory_policy`; empty if nothing is."""
    if policy in ("", "noeviction"):
        return ""
    return f"maxmemory-policy is {policy}: a full broker would delete what live sessions need; set it to noeviction"


async def check_version(connection: RedisConnection) -> str:
    """Return the broker's name and version.

    Raises:
        BrokerRefused: it is too old.
    """
    name, version = server_version(parse_info(await connection.call("INFO", "server")))
    oldest = OLDEST_VALKEY if name == "Valkey" else OLDEST_REDIS
    if tuple(int(part) for part in version.split(".")[:2]) < oldest:
        raise BrokerRefused(f"{name} {version} is too old: Redis >= 7.0 or Valkey >= 7.2 is needed")
    return f"{name} {version}"
