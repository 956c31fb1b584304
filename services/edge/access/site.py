"""Which web pages may use the edge, and by which names it may be called. Pure.

Through its visitor's browser a page of any site can reach a server on the visitor's machine. Its Origin header shows that. A page
whose name is made to point to that machine (DNS rebinding) has the same origin as the server; its Host header shows that. A
page at an IP address cannot do this.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from services.edge.access.request import Request
from shared.network import is_loopback

PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d{1,5}))?")


class Site:
    """The names of this server, and the pages that may use it."""

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """`hosts`: names beside the loopback names and IP addresses. `origins`: of other pages that may use it."""
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}

    def is_called(self, host: str | None) -> bool:
        """Whether a Host header names this server. A request without the header does not come from a browser."""
        if host is None:
            return True
        name = host_name(host)
        return name in self._hosts or is_loopback(name) or _is_address(name)

    def allows(self, request: Request) -> bool:
        """Whether the page that sent the request is the server's own, or may use the server; programs send no origin."""
        origin = request.origin
        return origin is None or origin.lower() in self._origins or _is_own(origin.lower(), request)


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without the port; empty if the header is malformed."""
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else ""


def _is_own(origin: str, request: Request) -> bool:
    """Whether a page of this origin came from the same host and port.

    Behind a proxy that is not trusted, a connection that looks plain may be encrypted for the client. So an encrypted page
    may use a plain server; a plain page, which anybody on the way can change, may not use an encrypted one.
    """
    scheme, _, rest = origin.partition("://")
    if scheme not in PORTS or request.host is None or (request.secure and scheme != "https"):
        return False
    usual = f":{PORTS[scheme]}"
    return rest.removesuffix(usual) == request.host.lower().removesuffix(usual)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def hosts_of(hosts: str, public_url: str, listens_on: str) -> list[str]:
    """The names in `PARLEY_HOSTS`, in the URL of phone carriers, and in the address on which the edge listens."""
    public = host_name(public_url.partition("://")[2].partition("/")[0])
    return [name for name in (*split(hosts), public, listens_on) if name]


def split(text: str) -> list[str]:
    """The entries of a setting that is a list, separated by commas."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]
