"""The edge's routes."""

import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from services.edge.gateway.gateway import Edge
from services.edge.http.monitor.routes import monitor_router
from services.edge.http.voices import voices_router
from services.edge.protocols.realtime.codec import RealtimeCodec
from services.edge.protocols.session_settings import described_settings
from services.edge.protocols.stream import RATES_HZ, StreamCodec
from services.edge.protocols.twilio import TwilioCodec, valid_signature

WEB = Path(__file__).parents[1] / "web"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; worker-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(edge: Edge) -> FastAPI:
    """All that the edge answers."""
    app = FastAPI(title="Parley", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def harden(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    app.mount("/web", StaticFiles(directory=WEB), name="web")

    @app.get("/health")
    async def health() -> JSONResponse:
        refusal = edge.refusal()
        body = {"status": "ok" if refusal is None else "unavailable", "stages": edge.monitor.stages()}
        if refusal is None:
            return JSONResponse(body)
        return JSONResponse({**body, "reason": refusal.message}, 503)

    @app.get("/config")
    async def config() -> dict[str, Any]:
        voices = edge.monitor.voices()
        return {
            "profile": edge.settings.profile,
            "voices": voices,
            "rates": list(RATES_HZ),
            "engines": {stage: shown["engine"] for stage, shown in edge.monitor.stages().items()},
            "settings": described_settings(edge.defaults(), voices),
        }

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return {"sessions": len(edge.sessions), "stages": edge.monitor.stages()}

    @app.post("/test-connection")
    async def test_connection() -> dict[str, Any]:
        if edge.bus is not None:
            await edge.monitor.look(edge.bus)
        refusal = edge.refusal()
        reason = None if refusal is None else refusal.message
        return {"ok": refusal is None, "reason": reason, "stages": edge.monitor.stages()}

    app.include_router(voices_router(edge))
    app.include_router(monitor_router(edge))

    @app.websocket("/ws")
    async def stream(websocket: WebSocket) -> None:
        asked = websocket.query_params.get("rate", "16000")
        if asked not in {str(rate) for rate in RATES_HZ}:
            await websocket.accept()
            await websocket.close(1008, f"rate must be one of {', '.join(map(str, RATES_HZ))}")
            return
        await edge.converse(websocket, StreamCodec(int(asked), edge.defaults()), "stream", browser=True)

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        offered = websocket.scope.get("subprotocols", [])
        codec = RealtimeCodec(
            edge.defaults(),
            model=websocket.query_params.get("model") or "parley",
            voices=edge.monitor.voices(),
            hears=edge.monitor.hears(),
            expires_at=int(time.time()) + edge.settings.max_session_s,
        )
        await edge.converse(websocket, codec, "realtime", subprotocol="realtime" if "realtime" in offered else None)

    @app.websocket("/phone/twilio")
    async def twilio(websocket: WebSocket) -> None:
        secret = edge.settings.twilio_auth_token
        if secret is not None:
            url = edge.settings.public_url or str(websocket.url)
            signature = websocket.headers.get("x-twilio-signature", "")
            if not valid_signature(secret.get_secret_value(), url, signature):
                await websocket.send_denial_response(JSONResponse({"error": "bad signature"}, 403))
                return
        await edge.converse(websocket, TwilioCodec(edge.defaults()), "twilio")

    return app
