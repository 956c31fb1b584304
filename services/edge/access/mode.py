"""Whether the edge asks for a key, by where it listens and what the settings say."""

from enum import Enum

from services.edge.access.keys import KeyFile
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
    """Who has to show a key.

    Raises:
        BadSettings: anybody could use the edge without the operator having said so, or nobody could.
    """
    if settings.open:
        if settings.keys == "required":
            raise BadSettings(
                "PARLEY_OPEN=true lets everybody in, and PARLEY_KEYS=required nobody without a key: unset one"
            )
        return Mode.OPEN
    behind_proxy = bool(settings.trusted_proxies)
    if settings.keys == "auto" and is_loopback(settings.host) and not behind_proxy:
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
