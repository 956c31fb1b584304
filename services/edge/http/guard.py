"""The gate before all routes: it refuses what `Access` denies, and adds the headers that protect the pages."""

from typing import Any

import structlog
from fastapi import Request, WebSocket
from fastapi.responses import JSONResponse

from services.edge.access.access import Access
from services.edge.access.caller import Caller
from services.edge.access.denied import Denied
from services.edge.access.request import request_of
from services.edge.access.site import host_name
from services.edge.gateway.errors import error_response
from shared.network import is_loopback

log = structlog.get_logger()

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The pages load nothing from elsewhere, and no page shows them in a frame. `'self'` covers the WebSocket."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(self), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=15552000")
ADVICE = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "5"}}
"""Headers of a refusal, by its status."""
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """ASGI middleware. A WebSocket is refused before it is accepted, with the status of an HTTP answer."""

    def __init__(self, app: Any, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        request = request_of(scope)
        # Browsers apply it to all ports of a name, so not to localhost.
        secure = request.secure and not is_loopback(host_name(request.host or ""))
        added = [*_HEADERS, _STRICT_TRANSPORT] if secure else _HEADERS

        async def harden(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in added if one[0] not in there)]
            await send(message)

        try:
            scope.setdefault("state", {})["caller"] = await self._access.admit(request)
        except Denied as denied:
            log.warning("request refused", code=denied.code, address=request.address, path=request.path[:100])
            await denial(denied)(scope, receive, harden)
            return
        await self._app(scope, receive, harden)


def denial(denied: Denied) -> JSONResponse:
    """The answer to a request that is refused."""
    return error_response(denied.status, denied.code, str(denied), ADVICE.get(denied.status))


def caller_of(connection: Request | WebSocket) -> Caller:
    """Return who sent this request."""
    caller: Caller = connection.state.caller
    return caller
