"""Where the edge listens: the URLs that follow from it, and whether the port can be had."""

import errno
import socket
from collections.abc import Sequence

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""Addresses to listen on that are none to connect to, and what to connect to instead."""


HIGHEST_PORT = 65535


class PortTaken(RuntimeError):
    """The edge cannot listen there; the message says why and what to do."""


def base_url(host: str, port: int) -> str:
    """Where this machine reaches an edge that listens on `host`, without a slash at the end.

    A page there may use the microphone: browsers allow it to loopback addresses without TLS.
    """
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def claim_port(host: str, port: int) -> int:
    """The port if it is free; for 0, one that is.

    Raises:
        PortTaken: it is not, or the address is not ours to listen on.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        raise PortTaken(_why(error, host, port)) from None


def claim_metrics_ports(host: str, first: int, names: Sequence[str], page_port: int) -> None:
    """Check that each of `names` can offer its metrics, the first of them on port `first`, the others on those after it.

    Raises:
        PortTaken: one cannot; the message names whose, and how to choose others.
    """
    choose = "choose others (METRICS_PORT=9564 make run) or none (METRICS_PORT=0 make run)"
    if first + len(names) - 1 > HIGHEST_PORT:
        highest = HIGHEST_PORT - len(names) + 1
        raise PortTaken(f"PARLEY_METRICS_PORT={first}: {len(names)} ports from it on are needed, so at most {highest}")
    for port, name in enumerate(names, first):
        whose = f"the metrics of {name}: port {port} on {host}"
        if port == page_port:
            raise PortTaken(f"{whose} is the page's own: {choose}")
        try:
            _listen(host, port)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise PortTaken(f"{whose} {reason}: {choose}") from None


def _listen(host: str, port: int) -> int:
    """Listen there for a moment; the port, which is another one only for 0."""
    family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        # As the edge will do it: connections of a predecessor that are still closing are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
        return int(listener.getsockname()[1])


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop what listens there, or choose another (PORT=8001 make run)"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs more rights than you have: choose one from 1024 up"
    return f"cannot listen on PARLEY_HOST={host!r}, port {port}: {error.strerror}"
