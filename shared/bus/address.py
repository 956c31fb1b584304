"""The broker's address and credentials, from the settings."""

from redis.asyncio.connection import parse_url

from shared.bus.connection import Address, BrokerRefused
from shared.settings import Settings


def broker_address(settings: Settings) -> Address:
    """Return the address in `PARLEY_REDIS_URL`.

    Raises:
        BrokerRefused: the setting is empty or not a valid URL.
    """
    if settings.redis_url is None:
        raise BrokerRefused("PARLEY_REDIS_URL is not set")
    url = settings.redis_url.get_secret_value()
    try:
        parts = parse_url(url)
    except ValueError as error:
        raise BrokerRefused(f"PARLEY_REDIS_URL: {error}") from None
    return Address(
        host=parts.get("host") or "127.0.0.1",
        port=int(parts.get("port") or 6379),
        path=parts.get("path"),
        username=parts.get("username"),
        password=parts.get("password"),
        database=int(parts.get("db") or 0),
        tls=url.startswith("rediss://"),
    )
