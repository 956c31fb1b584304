"""The HTTP and WebSocket routes of the edge."""

import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from services.edge.gateway.errors import Refused, error_response
from services.edge.gateway.gateway import Gateway
from services.edge.http.monitor.routes import is_open, monitor_router
from services.edge.http.system import system_router
from services.edge.http.voice_preview import voice_preview_router
from services.edge.http.voices import voices_router
from services.edge.protocols.realtime.codec import RealtimeCodec
from services.edge.protocols.realtime.models import DEFAULT_MODEL, agent_of
from services.edge.protocols.session_settings import described_settings
from services.edge.protocols.stream import RATES_HZ, StreamCodec, error_message
from services.edge.protocols.twilio import TwilioCodec, valid_signature
from shared.agents.agent import UnknownAgent

WEB = Path(__file__).parents[1] / "web"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; worker-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(gateway: Gateway) -> FastAPI:
    app = FastAPI(title="Parley", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def harden(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> Response:
        return error_response(refused.status, refused.code, str(refused))

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    app.mount("/web", StaticFiles(directory=WEB), name="web")

    @app.get("/health")
    async def health() -> JSONResponse:
        refusal = gateway.refusal()
        body = {"status": "ok" if refusal is None else "unavailable", "stages": gateway.admission.stages()}
        if refusal is None:
            return JSONResponse(body)
        return JSONResponse({**body, "reason": refusal.message}, 503)

    @app.get("/config")
    async def config(request: Request) -> dict[str, Any]:
        voices = gateway.admission.voices()
        return {
            "profile": gateway.settings.profile,
            "monitor": is_open(gateway.settings, request),
            "voices": voices,
            "rates": list(RATES_HZ),
            "engines": {stage: shown["engine"] for stage, shown in gateway.admission.stages().items()},
            "settings": described_settings(gateway.agents.default.settings, voices),
        }

    @app.get("/v1/agents")
    async def agents() -> dict[str, Any]:
        known = gateway.agents
        return {"agents": [agent.described() for agent in known.by_id.values()], "default": known.default.id}

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return {"sessions": len(gateway.sessions), "stages": gateway.admission.stages()}

    @app.post("/test-connection")
    async def test_connection() -> JSONResponse:
        refusal = await gateway.fresh_refusal()
        reason = None if refusal is None else refusal.message
        body = {"ok": refusal is None, "reason": reason, "stages": gateway.admission.stages()}
        return JSONResponse(body, 503 if refusal is not None and refusal.code == "broker" else 200)

    app.include_router(system_router(gateway))
    app.include_router(voices_router(gateway))
    app.include_router(voice_preview_router(gateway))
    app.include_router(monitor_router(gateway))

    @app.websocket("/ws")
    async def stream(websocket: WebSocket) -> None:
        rate = websocket.query_params.get("rate", "16000")
        if rate not in {str(supported) for supported in RATES_HZ}:
            await websocket.accept()
            await websocket.close(1008, f"the query parameter rate must be one of {', '.join(map(str, RATES_HZ))}")
            return
        try:
            agent = gateway.agents.named(websocket.query_params.get("agent") or gateway.agents.default.id)
        except UnknownAgent as error:
            await websocket.accept()
            await websocket.send_text(error_message("unknown_agent", str(error)))
            await websocket.close(1008, str(error)[:120])
            return
        await gateway.serve(websocket, StreamCodec(int(rate), agent.settings), "stream", agent.settings, browser=True)

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        subprotocols = websocket.scope.get("subprotocols", [])
        model = websocket.query_params.get("model") or DEFAULT_MODEL
        try:
            agent = agent_of(model, gateway.agents)
        except UnknownAgent as error:
            await websocket.send_denial_response(error_response(404, "model_not_found", str(error)))
            return
        codec = RealtimeCodec(
            agent.settings,
            model=model,
            voices=gateway.admission.voices(),
            hears=gateway.admission.accepts_audio(),
            expires_at=int(time.time()) + gateway.settings.max_session_s,
        )
        await gateway.serve(
            websocket, codec, "realtime", agent.settings, subprotocol="realtime" if "realtime" in subprotocols else None
        )

    @app.websocket("/phone/twilio")
    async def twilio(websocket: WebSocket) -> None:
        secret = gateway.settings.twilio_auth_token
        if secret is not None:
            url = gateway.settings.public_url or str(websocket.url)
            signature = websocket.headers.get("x-twilio-signature", "")
            if not valid_signature(secret.get_secret_value(), url, signature):
                await websocket.send_denial_response(
                    error_response(403, "bad_signature", "the X-Twilio-Signature header does not match the URL")
                )
                return
        await gateway.serve(websocket, TwilioCodec(gateway.agents), "twilio", gateway.agents.default.settings)

    return app
