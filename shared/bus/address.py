"""The broker's address and credentials, from the settings."""

import ssl
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

from shared.bus.connection import Address, BrokerRefused
from shared.settings import Settings


def broker_address(settings: Settings) -> Address:
    """Return the address in `PARLEY_REDIS_URL`.

    Raises:
        BrokerRefused: the setting is empty or not a valid URL, or a file of TLS cannot be used.
    """
    if settings.redis_url is None:
        raise BrokerRefused("PARLEY_REDIS_URL is not set")
    url = settings.redis_url.get_secret_value()
    try:
        address = parse_url(url)
    except ValueError:  # its text can contain a part of the password
        raise BrokerRefused("PARLEY_REDIS_URL is not a redis://, rediss:// or unix:// URL") from None
    return replace(address, tls=_tls(settings, encrypted=url.startswith("rediss://")))


def parse_url(url: str) -> Address:
    """Read a URL as redis-py does, without TLS.

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
    )


def _tls(settings: Settings, *, encrypted: bool) -> ssl.SSLContext | None:
    ca, cert, key = settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file
    if not encrypted:
        if (ca, cert, key) != (None, None, None):
            raise BrokerRefused("PARLEY_REDIS_CA_FILE, _CERT_FILE and _KEY_FILE need a PARLEY_REDIS_URL of rediss://")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # also of a file without a certificate
        raise BrokerRefused(f"PARLEY_REDIS_CA_FILE={ca}: {error}") from None
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            raise BrokerRefused(f"PARLEY_REDIS_CERT_FILE={cert}, PARLEY_REDIS_KEY_FILE={key}: {error}") from None
    elif key is not None:
        raise BrokerRefused("PARLEY_REDIS_KEY_FILE needs PARLEY_REDIS_CERT_FILE")
    return context
