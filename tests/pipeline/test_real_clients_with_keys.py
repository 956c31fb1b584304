"""Real clients of a whole system that asks for keys: the OpenAI SDK, and the commands of `parley`."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from websockets.exceptions import InvalidStatus

from deploy.client.conversation import Recording, TalkFailed, converse
from services.edge.access.keys import KeyFile
from shared.settings import load_settings
from tests.conftest import system
from tests.support.realtime_talk import Talk, talking
from tests.support.system import SCRIPTED, System, settings_of


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**SCRIPTED, "PARLEY_KEYS": "required", "PARLEY_DATA_DIR": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="module")
def server(env: dict[str, str]) -> Iterator[tuple[System, str]]:
    """A system, and the key of an operator."""
    key, _ = KeyFile(settings_of(env)).create("one", operator=True)
    with system(env) as running:
        yield running, key


async def reply_of(talk: Talk) -> str:
    content = [{"type": "input_text", "text": "What time is it?"}]
    await talk.connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})  # type: ignore[typeddict-item]
    await talk.connection.response.create(response={"output_modalities": ["text"]})
    await talk.until("response.done")
    return "".join(event.delta for event in talk.of("response.output_text.delta"))


async def test_the_sdk_with_a_key_and_with_a_client_secret(server: tuple[System, str]) -> None:
    running, key = server
    async with talking(running.url, key=key) as talk:
        assert (await reply_of(talk)).startswith("This is a scripted reply")
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key) as client:
        made = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "model": "parley", "instructions": "Sell shoes."},
        )
    assert made.value.startswith("ek_")
    assert made.session.instructions == "Sell shoes."
    async with talking(running.url, key=made.value) as talk:
        assert talk.of("session.created")[0].session.instructions == "Sell shoes."
        assert (await reply_of(talk)).startswith("This is a scripted reply")
        await talk.connection.session.update(session={"type": "realtime", "instructions": "Write code."})
        error = talk.events[await talk.until("error")].error
        assert (error.code, error.param) == ("bound_by_client_secret", "session.instructions")
    with pytest.raises(InvalidStatus) as refused:
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-wrong") as client:
            await client.realtime.connect(model="parley").enter()
    assert refused.value.response.status_code == 401
    with pytest.raises(openai.AuthenticationError, match="not a key of this server"):
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-wrong") as client:
            await client.realtime.client_secrets.create()


async def test_the_commands_send_the_key_of_the_environment(
    server: tuple[System, str], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, key = server

    async def parley(*words: str, **more: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "deploy.cli", *words, "--url", running.url,
            env={**env, "PYTHONPATH": str(Path(__file__).parents[2]), **more}, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return await process.wait(), output.decode()

    for words in (("top", "--once"), ("turns",), ("voices", "list")):
        code, output = await parley(*words)
        assert (code, "PARLEY_KEY" in output) == (1, True), output
        code, output = await parley(*words, PARLEY_KEY=key)
        assert "asks for a key" not in output
    silence: Callable[[], Recording] = lambda: Recording(bytes(3200))  # noqa: E731
    with pytest.raises(TalkFailed, match="PARLEY_KEY"):
        await converse(silence(), running.url)
    monkeypatch.setenv("PARLEY_KEY", key)
    load_settings.cache_clear()
    try:
        assert (await converse(silence(), running.url)).errors == []
    finally:
        monkeypatch.delenv("PARLEY_KEY")
        load_settings.cache_clear()
