"""Whether the edge asks for a key, by where it listens and what the settings say."""

from enum import Enum
from ipaddress import ip_network

from services.edge.access.keys import KeyFile
from services.edge.access.site import split
from shared.network import is_loopback
from shared.settings import BadSettings, Settings

WAYS = "create a key (`parley keys create NAME`), or let everybody in with PARLEY_OPEN=true; see docs/network.md"


class Mode(Enum):
    LOCAL = "local"
    """This machine needs no key. What a proxy passes on needs one."""
    KEYS = "keys"
    """Everybody needs a key."""
    OPEN = "open"
    """Nobody needs a key."""


def mode_of(settings: Settings) -> Mode:
    """Return who has to show a key.

    Raises:
        BadSettings: anybody could use the edge without the operator having said so, or nobody could.
    """
    for proxy in split(settings.trusted_proxies):
        try:
            ip_network(proxy)
        except ValueError as error:
            raise BadSettings(f"PARLEY_TRUSTED_PROXIES={settings.trusted_proxies}: {error}") from None
    if settings.open:
        if settings.keys == "required":
            raise BadSettings(
                "PARLEY_OPEN=true lets everybody in, and PARLEY_KEYS=required nobody without a key: unset one"
            )
        return Mode.OPEN
    if settings.keys == "auto" and is_loopback(settings.host) and not settings.trusted_proxies:
        return Mode.LOCAL
    keys = KeyFile(settings)
    if not keys.read():
        why = (
            "PARLEY_KEYS=required: there is no key yet"
            if settings.keys == "required"
            else f"PARLEY_TRUSTED_PROXIES={settings.trusted_proxies}: everybody whom the proxy lets in could use Parley"
            if is_loopback(settings.host)
            else f"PARLEY_HOST={settings.host}: everybody who reaches this address could use Parley"
        )
        raise BadSettings(f"{why}. Either {WAYS}")
    return Mode.KEYS
