"""`POST /v1/voice-preview` on a real system: a sentence in a voice, and what is refused."""

import asyncio
import io
import wave

import httpx
import pytest

from services.edge.gateway.gateway import Gateway
from services.edge.gateway.voice_preview import sentence
from services.edge.http.app import create_app
from services.edge.http.voice_preview import WAITING
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.support.system import System
from tests.support.waiting import HANG_S


def test_the_sentence_is_in_the_language_of_the_voice() -> None:
    assert sentence("de-AT") == sentence("de_DE") == "Hallo, so klinge ich."
    assert sentence("xx") == sentence("en")


def ask(server: System, **wanted: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/voice-preview", json=wanted, timeout=HANG_S, trust_env=False)


def test_a_voice_is_heard_through_the_tts_stage(parley_server: System) -> None:
    answer = ask(parley_server, voice="scripted", language="en", speed=1.0)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getnframes() == file.getframerate()  # the scripted voice speaks for a second
    assert ask(parley_server).content == answer.content  # the default voice


def test_a_voice_that_does_not_exist_is_named(parley_server: System) -> None:
    answer = ask(parley_server, voice="af_heart")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "voice_unknown")
    assert "af_heart" in answer.json()["error"]["message"]
    assert ask(parley_server, speed=100).status_code == 422


async def test_only_a_few_previews_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(Settings(), Shutdown(1))
    going_on = asyncio.Event()

    async def speak(*_: object) -> bytes:
        await going_on.wait()
        return b"RIFF"

    monkeypatch.setattr("services.edge.http.voice_preview._speak", speak)
    transport = httpx.ASGITransport(create_app(gateway))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
        asyncio.TaskGroup() as tasks,
    ):
        asked = [
            tasks.create_task(client.post("/v1/voice-preview", json={"speed": 1 + number / 10}))
            for number in range(WAITING + 1)
        ]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result().status_code for one in done] == [429]
        going_on.set()
    assert sorted(one.result().status_code for one in asked) == [*[200] * WAITING, 429]
