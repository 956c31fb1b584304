"""Agents through the whole system: how a client of each protocol gets one, and what becomes of its settings."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conftest import system
from tests.support.caller import calling
from tests.support.phone import Phone
from tests.support.phone import calling as phoning
from tests.support.realtime_talk import talking
from tests.support.system import SCRIPTED, StartFailed, System, running_system
from tests.support.waiting import HANG_S, until

ROOT = Path(__file__).parents[2]
AGENTS = {
    "assistant": 'name = "Parley"\ninstructions = "Be brief."\n',
    "anna": 'name = "Anna"\ninstructions = "You are Anna."\ngreeting = "Hello, this is Anna."\nvoice = "anna"\n'
    'language = "de"\nspeed = 1.5\nnumbers = ["+15550100"]\n',
    "bert": 'name = "Bert"\ninstructions = "You are Bert."\ngreeting = "Bert here."\nvoice = "bert"\n'
    "interrupt_reply = false\nendpoint_ms = 300\n",
}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with what the voice and the chat model were asked for."""
    return tmp_path_factory.mktemp("calls") / "calls"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    for name, text in AGENTS.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, calls: Path) -> Iterator[System]:
    env = {
        **SCRIPTED,
        "PARLEY_TTS_ENGINE": "tests.support.engines:CountedVoice",
        "PYTHONPATH": str(ROOT),  # where these engines are
        "PARLEY_LLM_ENGINE": "tests.support.engines:CountedModel",
        "PARLEY_AGENTS": str(folder),
        "TEST_CALLS": str(calls),
    }
    with system(env) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(calls: Path) -> None:
    calls.write_text("")


async def asked(calls: Path, line: str) -> None:
    await until(lambda: line in calls.read_text().splitlines())


async def test_a_client_of_ws_names_the_agent_in_the_url(server: System, calls: Path) -> None:
    async with calling(server.url, agent="anna") as caller:
        await asked(calls, "anna de 1.5: Hello, this is Anna.")
        assert (await caller.until("audio"))["pcm"]
        await caller.send("text_input", text="Who are you?")
        await until(
            lambda: re.search(r"^system: You are Anna. .*user: Who are you\?$", calls.read_text(), re.MULTILINE)
        )


async def test_without_a_name_it_is_the_default(server: System, calls: Path) -> None:
    async with calling(server.url) as caller:
        await caller.send("text_input", text="Hello.")
        await asked(calls, "system: Be brief. | user: Hello.")


async def test_what_the_client_sets_overrides_the_agent(server: System, calls: Path) -> None:
    async with calling(server.url, agent="anna", voice="bert", greeting="Good day.") as caller:
        await asked(calls, "bert de 1.5: Good day.")
        config = (await caller.until("ready"))["config"]
        assert (config["voice"], config["language"], config["instructions"]) == ("bert", "de", "You are Anna.")


async def test_the_turn_taking_of_an_agent_applies(server: System, speech_pcm: Callable[[str, int], bytes]) -> None:
    words = speech_pcm("please stop talking", 16_000)
    for agent, stopped in (("anna", True), ("bert", False)):
        async with calling(server.url, agent=agent) as caller:
            assert (await caller.until("ready"))["config"]["interrupt_reply"] is stopped
            await caller.until("audio")
            await caller.speak(words, silence_s=1.0)
            await caller.until("reply_done", turn=2)
            assert bool(caller.of("interrupt")) is stopped


async def test_a_realtime_client_names_the_agent_as_its_model(server: System, calls: Path) -> None:
    async with talking(server.url, model="bert") as talk:
        created = talk.events[await talk.until("session.created")].session
        assert (created.model, created.instructions, created.audio.output.voice) == ("bert", "You are Bert.", "bert")
        await asked(calls, "bert en 1: Bert here.")
    async with talking(server.url, model="gpt-realtime") as talk:
        assert talk.events[await talk.until("session.created")].session.instructions == "Be brief."


async def test_a_call_gets_the_agent_of_its_parameter_or_of_its_number(server: System, calls: Path) -> None:
    async with phoning(server.url, agent="bert") as phone:
        await asked(calls, "bert en 1: Bert here.")
        await phone.until(lambda: bool(phone.heard))
    async with phoning(server.url, to="+15550100"):
        await asked(calls, "anna de 1.5: Hello, this is Anna.")
    async with phoning(server.url, to="+15550100", agent="bert", greeting="Bert again."):
        await asked(calls, "bert en 1: Bert again.")


async def test_an_unknown_agent_is_refused_in_each_protocol(server: System) -> None:
    async with calling(server.url, start=False, agent="eve") as caller:
        error = await caller.until("error", code="unknown_agent")
        assert error["message"] == "there is no agent 'eve'; known are anna, assistant, bert"
        closed = await caller.until("closed")
        assert (closed["code"], closed["reason"]) == (1008, error["message"])
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        with pytest.raises(InvalidStatus) as refused:
            await client.realtime.connect(model="eve").enter()
    assert refused.value.response.status_code == 404
    assert b"anna, assistant, bert" in (refused.value.response.body or b"")
    async with connect(f"ws{server.url.removeprefix('http')}/phone/twilio", compression=None) as socket:
        await Phone(socket).begin(agent="eve")
        async with asyncio.timeout(HANG_S):
            await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (1008, error["message"])


async def test_the_list_of_agents(server: System) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        body = (await client.get("/v1/agents")).json()
    assert body["default"] == "assistant"
    assert body["agents"][0] == {
        "id": "anna", "name": "Anna", "description": "", "greeting": "Hello, this is Anna.", "language": "de",
        "voice": "anna",
    }  # fmt: skip


async def test_an_agent_that_the_engines_cannot_serve_stops_the_start(tmp_path: Path, calls: Path) -> None:
    path = tmp_path / "eve.toml"
    path.write_text('name = "Eve"\ninstructions = "x"\nvoice = "caruso"\nlanguage = "it"\nroute = "omni"\n')
    (tmp_path / "zoe.toml").write_text('name = "Zoe"\ninstructions = "x"\nlanguage = "it"\n')
    env = {
        **SCRIPTED,
        "PARLEY_TTS_ENGINE": "tests.support.engines:CountedVoice",
        "PYTHONPATH": str(ROOT),  # where these engines are
        "PARLEY_AGENTS": str(tmp_path),
        "PARLEY_AGENT": "eve",
        "TEST_CALLS": str(calls),
    }
    with pytest.raises(StartFailed) as failed:
        async with running_system(env):
            pass
    message = str(failed.value)
    assert f"{path}:3: voice 'caruso': known are anna, bert" in message
    assert f"{path}:5: route 'omni': the chat model cannot hear" in message
    assert f"{tmp_path / 'zoe.toml'}:3: language 'it': this Parley speaks de, en" in message
