"""The one place that decides who may use the edge, for each HTTP request and each handshake of a WebSocket."""

from services.edge.access.caller import Caller, Denied
from services.edge.access.request import Request
from services.edge.access.site import Site, host_name, hosts_of, split
from shared.network import is_loopback
from shared.settings import Settings

SHOWN = 100
"""Characters of a header that are repeated in an answer."""


class Access:
    """Decides by the settings of this edge."""

    def __init__(self, settings: Settings) -> None:
        self._site = Site(hosts_of(settings.hosts, settings.public_url, settings.host), split(settings.origins))
        self._on_loopback = is_loopback(settings.host)

    async def admit(self, request: Request) -> Caller:
        """Say who sent a request.

        Raises:
            Denied: the server does not answer it.
        """
        host, origin = request.host, request.origin
        if not self._site.is_called(host):
            name = host_name(host or "")[:SHOWN]
            message = f"this server is not known as {name!r}; PARLEY_HOSTS={name} makes it known by this name"
            raise Denied(403, "unknown_host", message)
        if request.changes_something and not self._site.allows(request):
            shown = (origin or "")[:SHOWN]
            message = (
                f"pages of {shown} may not use this server, which was called {(host or '')[:SHOWN]!r}; "
                f"PARLEY_ORIGINS={shown} allows it. A proxy has to pass the Host header on."
            )
            raise Denied(403, "unknown_origin", message)
        return Caller(request.address, self._is_local(request))

    def _is_local(self, request: Request) -> bool:
        """Whether a request comes from this machine, without a proxy that passes on what others send."""
        named = request.host is not None and is_loopback(host_name(request.host))
        return self._on_loopback and named and not request.forwarded
