"""`/phone/twilio`: calls over Twilio Media Streams, which are let in by Twilio's signature."""

import structlog
from fastapi import APIRouter, WebSocket

from services.edge.access.denied import Denied
from services.edge.gateway.gateway import Gateway
from services.edge.http.guard import caller_of
from services.edge.protocols.twilio import TwilioCodec, valid_signature

log = structlog.get_logger()


def phone_router(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/phone")
    settings = gateway.settings

    @router.websocket("/twilio")
    async def twilio(websocket: WebSocket) -> None:
        secret = settings.twilio_auth_token
        if secret is not None:
            url = signed_url(settings.public_url, str(websocket.url))
            signature = websocket.headers.get("x-twilio-signature", "")
            if not valid_signature(secret.get_secret_value(), url, signature):
                log.warning("call refused", reason="Twilio did not sign this URL with this token", url=url[:500])
                raise Denied(403, "bad_signature", "the X-Twilio-Signature header does not match the URL")
        asked = gateway.agents.default.settings
        await gateway.serve(websocket, TwilioCodec(gateway.agents), "twilio", caller_of(websocket), asked)

    return router


def signed_url(public: str, asked: str) -> str:
    """The URL as it stands in the TwiML: what Twilio signs. A proxy may have changed all of it but the query."""
    if not public:
        return asked
    _, mark, query = asked.partition("?")
    return f"{public}{mark}{query}"
