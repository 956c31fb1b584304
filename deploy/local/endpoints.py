"""Finds chat models that other programs serve on this machine, and mentions them: the shortest way to a larger model."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import httpx

from shared.engines.endpoint_models import chats
from shared.settings import PROFILES, Settings

PORTS = {11434: "Ollama", 8080: "llama.cpp", 1234: "LM Studio", 8000: "vLLM"}
"""The ports on which these servers listen if nothing else is set."""
SMALL: tuple[str, ...] = tuple(PROFILES[name]["llm_engine"] for name in ("light", "classic"))
"""Engines whose replies any larger model improves."""
TIMEOUT_S = 0.5
LARGEST_BYTES = 1 << 20
"""Longest answer that is read. A list of models is shorter."""


async def mention_endpoints(
    up: asyncio.Event,
    settings: Settings,
    own_ports: Collection[int],
    say: Callable[[str], None],
    ports: Mapping[int, str] = PORTS,
) -> None:
    """When everything is up, say which of `ports` serve a chat model, and how to use it. Those of Parley are not asked.

    Says nothing if the settings name an endpoint, or an engine that the user has chosen for its model.
    """
    await up.wait()
    if settings.llm_url or settings.llm_engine not in SMALL or settings.llm_model:
        return
    asked = {port: name for port, name in ports.items() if port not in own_ports}
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        models = await asyncio.gather(*(_first_chat_model(_url(port), client) for port in asked))
    for (port, name), model in zip(asked.items(), models, strict=True):
        if model:
            say(
                f"A chat model, {model}, is served on the port of {name}. To talk with it: PARLEY_LLM_URL={_url(port)} make run"
            )


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


async def _first_chat_model(url: str, client: httpx.AsyncClient) -> str:
    """Return the model that the llm stage would choose; empty if no server of OpenAI's protocol has a chat model there."""
    body = b""
    try:
        async with asyncio.timeout(TIMEOUT_S), client.stream("GET", f"{url}/models") as response:
            if response.status_code != httpx.codes.OK:
                return ""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > LARGEST_BYTES:
                    return ""
        listed = json.loads(body)
    except (httpx.HTTPError, httpx.StreamError, OSError, ValueError):  # TimeoutError is an OSError
        return ""
    return _chat_model(listed)


def _chat_model(listed: Any) -> str:
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        return ""
    models = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    # Another Parley on this machine lists itself.
    return next((model["id"] for model in models if model["id"] and model["id"] != "parley" and chats(model)), "")
