"""What the edge looks at before it lets a request in. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BEARER = "bearer "
SUBPROTOCOL_KEY = "openai-insecure-api-key."
"""Browsers cannot set headers of a WebSocket, so OpenAI's clients send their key as a subprotocol with this beginning."""
FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
"""Headers that proxies add."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, or the handshake of a WebSocket."""

    method: str
    path: str
    host: str | None
    """The Host header, with its port; None if the request has no such header, so it does not come from a browser."""
    origin: str | None
    """The page that sent it; None: it does not come from another page."""
    secure: bool
    """The client's connection is encrypted."""
    websocket: bool
    address: str
    """The client's IP address; behind a trusted proxy the one that the proxy names."""
    forwarded: bool
    """It came through a proxy, trusted or not."""
    credential: str | None
    """The key or client secret that it carries."""

    @property
    def changes_something(self) -> bool:
        return self.websocket or self.method not in ("GET", "HEAD", "OPTIONS")


def request_of(scope: Mapping[str, Any]) -> Request:
    """Read an ASGI scope of type `http` or `websocket`."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    client = scope.get("client")
    return Request(
        method=scope.get("method", "GET"),
        path=scope["path"],
        host=headers.get(b"host"),
        origin=headers.get(b"origin"),
        secure=scope["scheme"] in ("https", "wss"),
        websocket=scope["type"] == "websocket",
        address=client[0] if client else "",
        forwarded=any(name in headers for name in FORWARDED),
        credential=_credential(headers.get(b"authorization", ""), scope.get("subprotocols", ())),
    )


def _credential(authorization: str, subprotocols: Iterable[str]) -> str | None:
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    found = (name for name in subprotocols if name.startswith(SUBPROTOCOL_KEY))
    return next((name.removeprefix(SUBPROTOCOL_KEY) for name in found), None)
