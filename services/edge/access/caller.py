"""Who is at the other end of a connection, and the refusal of those who may not be there. Pure."""

from dataclasses import dataclass


class Denied(Exception):
    """The request is refused before anything is done for it: with this HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    address: str
    """IP address; behind a trusted proxy the client's own."""
    local: bool = False
    """It comes from this machine, and from no proxy."""
