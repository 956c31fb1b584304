"""Free TCP ports on the loopback interface."""

import socket
from contextlib import suppress

TRIES = 100


def free_ports(count: int) -> int:
    """The first of `count` consecutive free ports.

    Raises:
        RuntimeError: none were found.
    """
    for _ in range(TRIES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count <= 65536 and all(_is_free(first + offset) for offset in range(count)):
            return first
    raise RuntimeError(f"no {count} consecutive free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
