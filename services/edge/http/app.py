"""The HTTP and WebSocket routes of the edge."""

import os
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from services.edge.access.denied import Denied
from services.edge.gateway.errors import error_response
from services.edge.gateway.gateway import Gateway, chosen_subprotocol
from services.edge.http.client_secrets import client_secrets_router, settings_of
from services.edge.http.guard import Guard, caller_of, denial
from services.edge.http.monitor.routes import is_open, monitor_router
from services.edge.http.phone import phone_router
from services.edge.http.system import system_router
from services.edge.http.voice_preview import voice_preview_router
from services.edge.http.voices import voices_router
from services.edge.protocols.realtime.codec import RealtimeCodec
from services.edge.protocols.realtime.models import DEFAULT_MODEL, agent_of
from services.edge.protocols.realtime.resumable import ResumableCodec
from services.edge.protocols.session_settings import described_settings
from services.edge.protocols.stream import RATES_HZ, StreamCodec, error_message
from shared.agents.agent import UnknownAgent

WEB = Path(__file__).parents[1] / "web"


def create_app(gateway: Gateway) -> FastAPI:
    app = FastAPI(title="Parley", docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(Guard, access=gateway.access)

    @app.exception_handler(Denied)
    async def deny(_: HTTPConnection, denied: Denied) -> Response:
        return denial(denied)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    app.mount("/web", StaticFiles(directory=WEB), name="web")

    @app.get("/health")
    async def health() -> JSONResponse:
        refusal = gateway.refusal()
        status = "ok" if refusal is None else "unavailable"
        body = {"status": status, "stages": gateway.admission.stages(), "pid": os.getpid()}
        if refusal is None:
            return JSONResponse(body)
        return JSONResponse({**body, "reason": refusal.message}, 503)

    @app.get("/config")
    async def config(request: Request) -> dict[str, Any]:
        voices = gateway.admission.voices()
        return {
            "profile": gateway.settings.profile,
            "monitor": is_open(gateway.settings, caller_of(request)),
            "voices": voices,
            "rates": list(RATES_HZ),
            "engines": {stage: shown["engine"] for stage, shown in gateway.admission.stages().items()},
            "settings": described_settings(gateway.agents.default.settings, voices),
        }

    @app.get("/v1/agents")
    async def agents(request: Request) -> dict[str, Any]:
        known = caller_of(request).agents(gateway.agents)
        return {"agents": [agent.described() for agent in known.by_id.values()], "default": known.default.id}

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return {"sessions": len(gateway.connections.sessions), "stages": gateway.admission.stages()}

    @app.post("/test-connection")
    async def test_connection() -> JSONResponse:
        refusal = await gateway.fresh_refusal()
        reason = None if refusal is None else refusal.message
        body = {"ok": refusal is None, "reason": reason, "stages": gateway.admission.stages()}
        return JSONResponse(body, 503 if refusal is not None and refusal.code == "broker" else 200)

    app.include_router(client_secrets_router(gateway))
    app.include_router(system_router(gateway))
    app.include_router(voices_router(gateway))
    app.include_router(voice_preview_router(gateway))
    app.include_router(monitor_router(gateway))
    app.include_router(phone_router(gateway))

    @app.websocket("/ws")
    async def stream(websocket: WebSocket) -> None:
        caller = caller_of(websocket)
        rate = websocket.query_params.get("rate", "16000")
        if rate not in {str(supported) for supported in RATES_HZ}:
            await websocket.accept(subprotocol=chosen_subprotocol(websocket))
            await websocket.close(1008, f"the query parameter rate must be one of {', '.join(map(str, RATES_HZ))}")
            return
        try:
            agents = caller.agents(gateway.agents)
            agent = agents.named(websocket.query_params.get("agent") or agents.default.id)
        except UnknownAgent as error:
            await websocket.accept(subprotocol=chosen_subprotocol(websocket))
            await websocket.send_text(error_message("unknown_agent", str(error)))
            await websocket.close(1008, str(error)[:120])
            return
        settings, bound = settings_of(gateway, agent, caller.secret)
        await gateway.serve(
            websocket, StreamCodec(int(rate), settings, bound), "stream", caller, settings, browser=True
        )

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        caller = caller_of(websocket)
        model = websocket.query_params.get("model") or DEFAULT_MODEL
        try:
            agent = agent_of(model, caller.agents(gateway.agents))
        except UnknownAgent as error:
            await websocket.send_denial_response(error_response(404, "model_not_found", str(error)))
            return
        options: dict[str, Any] = {
            "model": model,
            "voices": gateway.admission.voices(),
            "hears": gateway.admission.accepts_audio(),
            "expires_at": int(time.time()) + gateway.settings.max_session_s,
            "bound": None if caller.secret is None else caller.secret.session,
        }
        match websocket.query_params.get("resume"):
            case None:
                codec = RealtimeCodec(agent.settings, **options)
            case "allow" | "now" as resume:
                codec = ResumableCodec(agent.settings, resume=resume, **options)
            case _:
                message = "The query parameter resume is neither allow nor now."
                await websocket.send_denial_response(error_response(400, "invalid_value", message))
                return
        await gateway.serve(websocket, codec, "realtime", caller, agent.settings)

    return app
