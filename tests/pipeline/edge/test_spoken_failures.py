"""A model that says nothing: the person hears of it in each protocol, also when the voice has stopped meanwhile."""

import os
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest

from services.edge.conversation.apologies import APOLOGIES
from tests.conftest import system
from tests.support import phone
from tests.support.caller import calling
from tests.support.realtime_talk import talking
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S, until

Speech = Callable[[str, int], bytes]

WORDS = "hello there how are you today my friend"
SILENT = {
    **SCRIPTED,
    "PARLEY_LLM_ENGINE": "tests.support.engines:SilentModel",
    "PARLEY_SPEAK_FAILURES": "always",
    "PARLEY_DRAIN_MS": "0",
}


@pytest.fixture(scope="module")
def server() -> Iterator[System]:
    with system(SILENT) as running:
        yield running


async def test_a_caller_hears_a_sentence_also_when_the_voice_has_stopped(server: System, speech_pcm: Speech) -> None:
    async with phone.calling(server.url) as call:
        call.speak(speech_pcm(WORDS, phone.SAMPLES_PER_S))
        await call.until(lambda: len(call.heard) >= phone.SAMPLES_PER_S)  # the scripted voice speaks for a second
        os.kill(server.pids["tts"], signal.SIGSTOP)
        try:
            call.speak(bytes(2 * phone.SAMPLES_PER_S) + speech_pcm(WORDS, phone.SAMPLES_PER_S))
            await call.until(lambda: len(call.heard) >= 2 * phone.SAMPLES_PER_S)
        finally:
            os.kill(server.pids["tts"], signal.SIGCONT)
            await until(lambda: httpx.get(f"{server.url}/health", trust_env=False, timeout=HANG_S).is_success)


async def test_a_stream_client_hears_and_sees_it(server: System) -> None:
    async with calling(server.url) as caller:
        await caller.send("text_input", text="hello")
        done = await caller.until("reply_done", turn=1)
        assert (done["status"], done["reason"]) == ("failed", "empty_reply")
        assert (await caller.until("error", turn=1))["code"] == "empty_reply"
        assert (await caller.until("model_response", turn=1))["text"] == APOLOGIES["en"]
        assert len(caller.audio) == 2 * 16_000


async def test_a_realtime_client_hears_it_in_the_response(server: System, speech_pcm: Speech) -> None:
    async with talking(server.url) as talk:
        await talk.speak(speech_pcm(WORDS, 24_000))
        await talk.until("response.done")
        response = talk.events[-1].response
        assert response.status == "failed"
        assert response.status_details.error.code == "empty_reply"
        assert response.output[0].content[0].transcript == APOLOGIES["en"]
        assert "response.output_audio.delta" in talk.kinds()
