"""`POST /v1/voice-preview`: a sentence in a voice, as a WAV file."""

import asyncio
from collections import OrderedDict

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from services.edge.gateway.errors import Refused
from services.edge.gateway.gateway import Gateway
from services.edge.gateway.spoken import NotSpoken
from services.edge.gateway.voice_preview import preview
from services.edge.protocols.session_settings import Language, Speed, Voice
from shared.bus.connection import BrokerGone

WAITING = 4
"""Previews that wait or are spoken at the same time, of all clients; more are refused."""
KEPT = 64
"""Previews that are kept, the last ones: each is about 100 kB."""


class Wanted(BaseModel):
    """JSON, which a page of another site cannot send without a CORS preflight."""

    model_config = ConfigDict(frozen=True)

    voice: Voice = ""
    language: Language = "en"
    speed: Speed = 1.0


def voice_preview_router(gateway: Gateway) -> APIRouter:
    router = APIRouter()
    spoken: OrderedDict[tuple[str, Wanted], bytes] = OrderedDict()
    one_at_a_time = asyncio.Lock()
    waiting = 0

    @router.post("/v1/voice-preview")
    async def show(wanted: Wanted) -> Response:
        nonlocal waiting
        key = (gateway.admission.engine("tts"), wanted)
        if key not in spoken:
            if waiting >= WAITING:
                raise Refused(429, "busy", "other previews are being spoken: try again in a moment")
            waiting += 1
            try:
                async with one_at_a_time:
                    spoken[key] = spoken.get(key) or await _speak(gateway, wanted)
            finally:
                waiting -= 1
            while len(spoken) > KEPT:
                spoken.popitem(last=False)
        return Response(spoken[key], media_type="audio/wav")

    return router


async def _speak(gateway: Gateway, wanted: Wanted) -> bytes:
    """Conversations come first: a server that takes no new one speaks no preview."""
    if (refusal := gateway.refusal()) is not None:
        raise Refused(503, "unavailable", refusal.message)
    if wanted.voice and wanted.voice.partition("+")[0] not in gateway.admission.voices():
        raise Refused(404, "voice_unknown", f"there is no voice {wanted.voice[:100]!r}")
    assert gateway.bus is not None  # noqa: S101 - checked by `refusal`
    try:
        return await preview(gateway.bus, wanted.voice, wanted.language, wanted.speed)
    except NotSpoken as error:
        raise Refused(422, "preview_failed", str(error)) from error
    except BrokerGone as error:
        raise Refused(503, "unavailable", str(error)) from error
