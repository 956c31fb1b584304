"""`POST /v1/realtime/client_secrets`: a short-lived secret for a client that must not see the key, as OpenAI has it."""

import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, TypeAdapter

from services.edge.access.client_secrets import ClientSecret
from services.edge.gateway.errors import Refused
from services.edge.gateway.gateway import Gateway
from services.edge.http.guard import caller_of
from services.edge.protocols.fields import BadField, checked, whole
from services.edge.protocols.realtime.bound_session import bound_settings
from services.edge.protocols.realtime.models import DEFAULT_MODEL, agent_of
from services.edge.protocols.realtime.session import SessionObject
from services.edge.protocols.realtime.wire import Refused as SessionRefused
from services.edge.protocols.realtime.wire import random_id
from shared.agents.agent import Agent, Agents, UnknownAgent
from shared.protocol.session import SessionSettings

LARGEST_BYTES = 256 * 1024
"""Longest request: a session with long instructions and many tools."""


class ExpiresAfter(BaseModel):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, whole(10, 7200)] = 600


class Wanted(BaseModel):
    """`uses` is Parley's own: how many WebSockets the secret opens."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = {}
    uses: Annotated[int, whole(1, 1_000_000)] | None = None


_WANTED = TypeAdapter(Wanted)


def client_secrets_router(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/realtime")

    @router.post("/client_secrets")
    async def create(request: Request) -> dict[str, Any]:
        caller = caller_of(request)
        caller.check_may_create_secrets()
        wanted = await _read(request)
        agent, model = _agent(wanted.session, caller.agents(gateway.agents))
        bound = {name: value for name, value in wanted.session.items() if name != "model"}
        session = session_of(gateway, agent, model or DEFAULT_MODEL, bound)
        secret = ClientSecret(
            expires_s=int(time.time()) + wanted.expires_after.seconds,
            session=bound,
            agent=agent.id if model else "",
            key="" if caller.key is None else caller.key.id,
            uses=wanted.uses,
        )
        value = await gateway.access.secrets.create(secret)
        shown = {**session.config, "id": random_id("sess"), "expires_at": 0}
        return {"value": value, "expires_at": secret.expires_s, "session": shown}

    return router


async def _read(request: Request) -> Wanted:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BYTES:
            raise Refused(413, "too_large", f"a request has at most {LARGEST_BYTES} bytes")
    try:
        return checked(_WANTED, TypeAdapter(dict[str, Any]).validate_json(bytes(body) or b"{}"))
    except BadField as error:
        raise Refused(400, "invalid_value", str(error)) from None
    except ValueError:
        raise Refused(400, "invalid_json", "the body is not a JSON object") from None


def _agent(session: dict[str, Any], agents: Agents) -> tuple[Agent, str]:
    """The agent that the session's model names, and that name; the default agent and an empty name if it names none."""
    model = session.get("model") or ""
    if not model:
        return agents.default, ""
    try:
        return agent_of(str(model), agents), str(model)
    except UnknownAgent as error:
        raise Refused(404, "model_not_found", str(error)) from None


def session_of(gateway: Gateway, agent: Agent, model: str, bound: dict[str, Any]) -> SessionObject:
    """The session object with these fields. Raises `Refused` if they do not belong to a session."""
    admission = gateway.admission
    try:
        return SessionObject(agent.settings, model, admission.voices(), hears=admission.accepts_audio(), bound=bound)
    except BadField as error:
        raise Refused(400, "invalid_value", str(error)) from None
    except SessionRefused as error:
        raise Refused(400, error.code, str(error)) from None


def settings_of(gateway: Gateway, agent: Agent, secret: ClientSecret | None) -> tuple[SessionSettings, frozenset[str]]:
    """The settings with which a session begins, and the names of those that its client may not change."""
    if secret is None:
        return agent.settings, frozenset()
    names = bound_settings(secret.session)
    fixed = session_of(gateway, agent, DEFAULT_MODEL, dict(secret.session)).settings()
    return replace(agent.settings, **{name: getattr(fixed, name) for name in names}), names
