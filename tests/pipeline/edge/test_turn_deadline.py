"""A voice that never answers: the client of each protocol learns that its turn has failed."""

from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.conftest import system
from tests.support import phone
from tests.support.caller import calling
from tests.support.realtime_talk import talking
from tests.support.system import SCRIPTED, System

Speech = Callable[[str, int], bytes]

WORDS = "hello there how are you today my friend"
STUCK = {
    **SCRIPTED,
    "PARLEY_SCRIPTED_TTS_MS": "600000",
    "PARLEY_TURN_DEADLINE_S": "1.5",
    "PARLEY_FAILURE_LIMIT": "1",
    "PARLEY_DRAIN_MS": "0",
}
MESSAGE = "the tts stage has not answered for 1.5 s"


@pytest.fixture(scope="module")
def server() -> Iterator[System]:
    with system(STUCK) as running:
        yield running


async def test_a_stream_client_is_told(server: System) -> None:
    async with calling(server.url) as caller:
        for turn in (1, 2):
            await caller.send("text_input", text="hello")
            assert (await caller.until("error", turn=turn))["message"] == MESSAGE
            assert (await caller.until("reply_done", turn=turn))["status"] == "failed"


async def test_a_realtime_client_is_told(server: System, speech_pcm: Speech) -> None:
    async with talking(server.url) as talk:
        await talk.speak(speech_pcm(WORDS, 24_000))
        await talk.until("response.done")
        response = talk.events[-1].response
        assert response.status == "failed"
        assert response.status_details.error.code == "reply_deadline"


async def test_a_phone_call_is_closed(server: System, speech_pcm: Speech) -> None:
    async def talk_to_the_end() -> None:
        async with phone.calling(server.url) as call:
            call.speak(speech_pcm(WORDS, phone.SAMPLES_PER_S))
            await call.until(lambda: False)

    with pytest.raises(ExceptionGroup) as ended:
        await talk_to_the_end()
    closed, _ = ended.value.split(ConnectionClosedError)
    assert closed is not None
    error = closed.exceptions[0]
    assert isinstance(error, ConnectionClosedError)
    assert error.rcvd is not None
    assert (error.rcvd.code, error.rcvd.reason) == (1011, "too many turns have failed")
