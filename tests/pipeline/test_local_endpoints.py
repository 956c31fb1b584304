"""Chat models that other programs serve on this machine are mentioned, and nothing else is taken for one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.local.endpoints import mention_endpoints
from shared.settings import Settings
from tests.support.openai_server import Answer, OpenAIServer, error, free_port_url, openai_server
from tests.support.waiting import HANG_S


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        yield running


async def mentioned(
    server: OpenAIServer, *, own: tuple[int, ...] = (), more: dict[int, str] | None = None, **given: Any
) -> list[str]:
    said: list[str] = []
    ports = {port_of(server.url): "Ollama", **(more or {})}
    up = asyncio.Event()
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as tasks:
        mention = mention_endpoints(up, Settings(**{"profile": "light", **given}), own, said.append, ports)
        tasks.create_task(mention)
        await asyncio.sleep(0)
        assert server.asked == []  # it does not take the time of the start
        up.set()
    return said


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


@pytest.mark.parametrize("profile", ["light", "classic"])
async def test_a_chat_model_is_mentioned_with_the_line_to_use_it(server: OpenAIServer, profile: str) -> None:
    server.models = {"object": "list", "data": [{"id": "nomic-embed-text"}, {"id": "qwen3:4b", "object": "model"}]}
    nothing = {port_of(free_port_url()): "vLLM"}
    (line,) = await mentioned(server, more=nothing, profile=profile)
    assert line.startswith("A chat model, qwen3:4b, is served on the port of Ollama. ")
    assert line.endswith(f"PARLEY_LLM_URL={server.url} make run")
    assert [asked.path for asked in server.asked] == ["/v1/models"]


@pytest.mark.parametrize(
    "models",
    [
        None,
        {},
        [],
        {"data": []},
        {"data": None},
        {"data": ["qwen3:4b", 7, {}, {"id": 7}, {"id": ""}]},
        {"data": [{"id": "nomic-embed-text:latest"}, {"id": "bge-m3"}, {"id": "whisper-1"}]},
        {"data": [{"id": "parley"}]},
        error(401, "who are you?"),
        Answer((b"<html>",), None),
        Answer((b" " * 400_000,) * 4, None),
        Answer((b"{", 300.0), None),
    ],
    ids=str,
)  # fmt: skip
async def test_nothing_else_is_taken_for_one(server: OpenAIServer, models: Any) -> None:
    server.models = models
    assert await mentioned(server) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "given", [{"llm_url": "http://10.0.0.1/v1"}, {"llm_engine": "scripted"}, {"llm_model": "own.gguf"}, {"profile": "neural"}]
)  # fmt: skip
async def test_nobody_is_asked_where_another_model_is_chosen(server: OpenAIServer, given: dict[str, Any]) -> None:
    assert await mentioned(server, **given) == []
    assert server.asked == []


async def test_parleys_own_ports_are_not_asked(server: OpenAIServer) -> None:
    assert await mentioned(server, own=(port_of(server.url),)) == []
    assert server.asked == []
