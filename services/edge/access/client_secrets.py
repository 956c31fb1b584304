"""Short-lived secrets for clients that must not see a key, such as web pages. The broker keeps their hashes until they expire.

So every edge accepts them. A secret ends with the key that created it.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from services.edge.access.denied import Denied
from services.edge.access.keys import digest
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone

PREFIX = "ek_"
WRONG = "this client secret does not exist, or has expired"


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What the holder of a secret may do."""

    expires_s: int
    """Seconds since 1970. A session that began before goes on."""
    session: Mapping[str, Any]
    """A Realtime session, or a part of it: what the client may not change."""
    agent: str = ""
    """The agent that it may talk with; empty: those of the key."""
    key: str = ""
    """Id of the key that created it; empty: this machine did, which needs no key."""
    uses: int | None = None
    """WebSockets that it opens, also to resume a session; None: any number."""


_SECRET: TypeAdapter[ClientSecret] = TypeAdapter(ClientSecret)


class ClientSecrets:
    """The secrets of all edges."""

    def __init__(self, bus: Callable[[], Bus | None]) -> None:
        self._bus = bus

    async def create(self, secret: ClientSecret) -> str:
        """Keep a secret until it expires. Returns it, which nobody can do later.

        Raises:
            Denied: there is no broker.
        """
        text = PREFIX + secrets.token_urlsafe(32)
        try:
            await self._connected().keep_secret(digest(text), _SECRET.dump_json(secret), secret.expires_s)
        except BrokerGone as error:
            raise Denied(503, "unavailable", str(error)) from None
        return text

    async def find(self, text: str, *, use: bool) -> ClientSecret:
        """Return what the holder of a secret may do. `use`: it opens a session.

        Raises:
            Denied: there is no such secret, it has expired or was used as often as it may be, or there is no broker.
        """
        hash_ = digest(text)
        try:
            packed = await self._connected().secret(hash_)
            secret = None if packed is None else _SECRET.validate_json(packed)
            if secret is None or time.time() >= secret.expires_s:
                raise Denied(401, "invalid_api_key", WRONG)
            if use and secret.uses is not None:
                used = await self._connected().use_secret(hash_, secret.expires_s)
                if used > secret.uses:
                    raise Denied(401, "secret_used_up", "this client secret was used as often as it may be")
        except BrokerGone as error:
            raise Denied(503, "unavailable", str(error)) from None
        return secret

    def _connected(self) -> Bus:
        bus = self._bus()
        if bus is None:
            raise BrokerGone("the broker is not reachable")
        return bus
