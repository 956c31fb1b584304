"""Finds model servers that run on this machine, to mention them: the shortest way to a larger chat model."""

import asyncio

import httpx

PORTS = {11434: "Ollama", 8080: "llama.cpp", 1234: "LM Studio", 8000: "vLLM"}
"""The ports on which these servers listen if nothing else is set."""
TIMEOUT_S = 0.5


async def chat_endpoints(ports: dict[int, str], client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Return the name of the server and the base URL of each endpoint that lists models, in the order of `ports`."""
    found = await asyncio.gather(*(_answers(f"http://127.0.0.1:{port}/v1", client) for port in ports))
    return [
        (name, f"http://127.0.0.1:{port}/v1")
        for (port, name), answers in zip(ports.items(), found, strict=True)
        if answers
    ]


async def _answers(url: str, client: httpx.AsyncClient) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            models = (await client.get(f"{url}/models")).json()["data"]
            return isinstance(models, list) and all("id" in model for model in models) and bool(models)
    except (httpx.HTTPError, ValueError, KeyError, TypeError, TimeoutError):
        return False
