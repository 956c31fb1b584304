"""`GET /v1/system`: which engines and models are at work, for people who talk with them."""

from typing import Any

from fastapi import APIRouter, Request

from services.edge.gateway.gateway import Gateway
from services.edge.http.guard import caller_of
from services.edge.http.monitor.routes import is_open
from shared.engines.catalog import model_title
from shared.settings import STAGES


def system_router(gateway: Gateway) -> APIRouter:
    router = APIRouter()
    admission = gateway.admission

    @router.get("/v1/system")
    async def show(request: Request) -> dict[str, Any]:
        """A stage without a ready worker has an empty `engine`; one whose engine has no model has empty `models`."""
        stages: dict[str, dict[str, Any]] = {
            stage: {
                "engine": admission.engine(stage),
                "models": [model_title(name) for name in admission.models(stage)],
            }
            for stage in STAGES
        }
        stages["vad"]["endpointing"] = admission.endpointing()
        stages["asr"]["languages"] = sorted(admission.abilities().understands)
        return {
            "profile": gateway.settings.profile,
            "stages": stages,
            "monitor": is_open(gateway.settings, caller_of(request)),
        }

    return router
