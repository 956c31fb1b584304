"""The addresses and ports of a Parley on this machine: its URL, and a check that its ports are free."""

import errno
import socket
from collections.abc import Sequence

import psutil

from shared.network import is_loopback
from shared.settings import Settings

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""The address to connect to, for each address that means "listen on all interfaces"."""
HIGHEST_PORT = 65535
BACKLOG = 2048
"""Connections that wait for the edge to accept them; uvicorn's own default."""


class PortTaken(RuntimeError):
    """A service cannot listen on a port. The message says why and what to do."""


def edge_url(settings: Settings, port: int | None = None) -> str:
    """The URL at which this machine reaches the edge; `port`: another one than the settings'."""
    url = base_url(settings.host, settings.port if port is None else port)
    return url if settings.tls_cert is None else url.replace("http:", "https:", 1)


def base_url(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens on `host`; no slash at the end.

    All interfaces become loopback: there, browsers allow a page to use the microphone without TLS.
    """
    host = LOOPBACK_OF.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def network_urls(host: str, port: int) -> list[str]:
    """Return the URLs at which other machines reach a server that listens on `host`; empty if only this machine can."""
    if host not in LOOPBACK_OF:
        return [] if is_loopback(host) else [base_url(host, port)]
    addresses = (one for own in psutil.net_if_addrs().values() for one in own)
    found = [one.address for one in addresses if one.family == socket.AF_INET and not is_loopback(one.address)]
    return [base_url(address, port) for address in found]


def claim_port(host: str, port: int) -> int:
    """Check that a server can listen on the port. Returns it, or a free port if it is 0.

    Raises:
        PortTaken: the port is in use, or this machine does not have the address.
    """
    with open_listener(host, port) as listener:
        return int(listener.getsockname()[1])


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the port, or on a free one if it is 0. Raises `PortTaken` as `claim_port`."""
    try:
        return _listen(host, port)
    except OSError as error:
        raise PortTaken(_why(error, host, port)) from None


def claim_metrics_ports(host: str, first: int, names: Sequence[str], page_port: int) -> None:
    """Check that the metrics ports are free: `first` for the first of `names`, and one after another for the others.

    Raises:
        PortTaken: one is not free. The message names the service, and how to choose other ports.
    """
    choose = "choose other ports (METRICS_PORT=9564 make run) or none (METRICS_PORT=0 make run)"
    if first + len(names) - 1 > HIGHEST_PORT:
        highest = HIGHEST_PORT - len(names) + 1
        raise PortTaken(f"PARLEY_METRICS_PORT={first}: it is the first of {len(names)} ports, so at most {highest}")
    for port, name in enumerate(names, first):
        what = f"metrics of {name}: port {port} on {host}"
        if port == page_port:
            raise PortTaken(f"{what} is already the port of the page: {choose}")
        try:
            _listen(host, port).close()
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise PortTaken(f"{what} {reason}: {choose}") from None


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of a predecessor that are still closing do not keep it from listening.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop the program there, or choose another port (PORT=8001 make run)"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs root rights: choose a port from 1024 up"
    return f"cannot listen on PARLEY_HOST={host!r}, port {port}: {error.strerror}"
