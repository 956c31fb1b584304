"""The broker's address and credentials, from the settings."""

from urllib.parse import parse_qs, unquote, urlsplit

from shared.bus.connection import Address, BrokerRefused
from shared.settings import Settings


def broker_address(settings: Settings) -> Address:
    """Return the address in `PARLEY_REDIS_URL`.

    Raises:
        BrokerRefused: the setting is empty or not a valid URL.
    """
    if settings.redis_url is None:
        raise BrokerRefused("PARLEY_REDIS_URL is not set")
    try:
        return parse_url(settings.redis_url.get_secret_value())
    except ValueError:  # its text can contain a part of the password
        raise BrokerRefused("PARLEY_REDIS_URL is not a redis://, rediss:// or unix:// URL") from None


def parse_url(url: str) -> Address:
    """Read a URL as redis-py does. Importing redis-py takes a fifth of a worker's start.

    Raises:
        ValueError: it is not a URL of a broker.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("unknown scheme")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    path = unquote(parts.path)
    is_socket = parts.scheme == "unix"
    database = query.get("db", "" if is_socket else path.replace("/", ""))
    return Address(
        host=unquote(parts.hostname or "127.0.0.1"),
        port=parts.port or 6379,
        path=path if is_socket else None,
        username=unquote(parts.username or "") or query.get("username"),
        password=unquote(parts.password or "") or query.get("password"),
        database=int(database or 0),
        tls=parts.scheme == "rediss",
    )
