"""Conversations on the route `omni`: the chat model hears the turn itself, and may speak its reply."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import system
from tests.pipeline.test_turn_taking import a_cough, assert_ramp
from tests.support.caller import Caller, calling
from tests.support.realtime_talk import talking
from tests.support.system import SCRIPTED, System

SECOND = 16_000
SCRIPT = "This is a scripted reply with a good number of words in it that streams in twenty deltas to its end."
OMNI = {
    **SCRIPTED,
    "PARLEY_SCRIPTED_TTS_SECONDS": "6",
    "PARLEY_SCRIPTED_ASR_LEAST_MS": "900",  # 300 of them are from before the first sound
    "PARLEY_ROUTE": "omni",
}

Speech = Callable[[str, int], bytes]


@pytest.fixture(scope="module", params=["scripted-omni", "services.llm.engines.scripted_omni:ScriptedTalker"])
def omni_server(request: pytest.FixtureRequest) -> Iterator[System]:
    """The model hears; its replies of six seconds are spoken by the tts stage, or by itself."""
    with system({**OMNI, "PARLEY_LLM_ENGINE": request.param}) as running:
        yield running


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", SECOND)


def reply_text(caller: Caller, turn: int) -> str:
    return "".join(event["text"] for event in caller.of("model_response", turn=turn))


def heard_ms(text: str) -> int:
    """What the model says that it heard."""
    found = re.fullmatch(rf"{re.escape(SCRIPT)} I heard (\d+) ms\.", text)
    assert found, text
    return int(found[1])


async def history(caller: Caller) -> list[tuple[str, str]]:
    caller.events = [event for event in caller.events if event["type"] != "history"]
    await caller.send("get_history")
    return [(one["role"], one["text"]) for one in (await caller.until("history"))["messages"]]


async def test_the_model_answers_what_it_heard_and_the_reply_is_ready_at_the_end(
    omni_server: System, words: bytes
) -> None:
    async with calling(omni_server.url, adapt_endpoint=False, endpoint_ms=1500) as caller:
        await caller.speak(words, silence_s=1.7)
        marks = (await caller.until("timing"))["marks"]
        assert marks["first_token"] < 1480 <= marks["endpoint"] <= marks["first_audio"]
        await caller.until("reply_done", turn=1, status="completed")
        said = reply_text(caller, 1)
        assert len(words) / 32 - 100 <= heard_ms(said) <= len(words) / 32 + 350  # with what was before the first sound
        assert (await caller.until("transcript", final=True))["text"] == "hello there"
        assert await history(caller) == [("user", "hello there"), ("assistant", said)]
        spoken = bytes(caller.audio)
        assert_ramp(spoken[: 12 * SECOND], 6 * SECOND)
        assert len(caller.of("reply_started")) == 1


async def test_a_pause_within_a_turn_is_heard_as_a_whole(omni_server: System, words: bytes) -> None:
    async with calling(omni_server.url, adapt_endpoint=False) as caller:
        await caller.speak(words, silence_s=0.34)
        assert caller.of("audio") == caller.of("reply_started") == []
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", status="completed")
        assert [event["turn"] for event in caller.of("reply_started")] == [1]
        assert 2 * len(words) / 32 + 240 <= heard_ms(reply_text(caller, 1)) <= 2 * len(words) / 32 + 700


async def test_without_speculation_the_work_begins_at_the_end(omni_server: System, words: bytes) -> None:
    async with calling(omni_server.url, adapt_endpoint=False, speculations=0) as caller:
        await caller.speak(words, silence_s=0.7)
        marks = (await caller.until("timing"))["marks"]
        assert marks["endpoint"] <= marks["first_token"] <= marks["first_audio"]


async def test_words_end_a_reply_and_a_cough_does_not(omni_server: System, words: bytes) -> None:
    async with calling(omni_server.url) as caller:
        await caller.speak(words, silence_s=0.6)
        await caller.until("audio")
        await caller.speak(a_cough(), silence_s=1.0)
        paused, resumed = await caller.until("pause", turn=1), await caller.until("resume", turn=1)
        assert abs(resumed["from_ms"] - paused["heard_ms"]) <= 1
        await caller.speak(words, silence_s=0.8)
        interrupt = await caller.until("interrupt", turn=1)
        assert interrupt["heard"]
        assert SCRIPT.startswith(interrupt["heard"])
        await caller.until("reply_started", turn=interrupt["turn"] + 2)  # the cough took a number
        said = await history(caller)
        assert said[:3] == [("user", "hello there"), ("assistant", interrupt["heard"]), ("user", "hello there")]


async def test_the_reply_comes_without_the_recogniser_and_the_words_when_it_is_back(
    omni_server: System, words: bytes
) -> None:
    asr = omni_server.pids["asr"]
    async with calling(omni_server.url) as caller:
        os.kill(asr, signal.SIGSTOP)
        try:
            await caller.speak(words, silence_s=0.7)
            await caller.until("reply_done", turn=1, status="completed")
            heard_ms(reply_text(caller, 1))
            assert caller.of("transcript", final=True) == []
            await caller.speak(words, silence_s=1.0)  # into the reply: it is meant, as nobody says otherwise
            await caller.until("interrupt", turn=1)
            await caller.until("reply_done", turn=2, status="completed")
        finally:
            os.kill(asr, signal.SIGCONT)
        await caller.until("transcript", turn=1, final=True)
        await caller.until("transcript", turn=2, final=True)
        assert [role for role, _ in await history(caller)] == ["user", "assistant", "user", "assistant"]


async def test_the_llm_worker_dies_within_a_reply_and_another_hears_the_turn(speech_pcm: Speech) -> None:
    words = speech_pcm("hello there how are you today my friend", SECOND)
    env = {**OMNI, "PARLEY_LLM_ENGINE": "tests.support.engines:SlowTalker", "PARLEY_LEASE_MS": "600"}
    with system({**env, "PYTHONPATH": str(Path.cwd())}) as running:
        async with calling(running.url) as caller:
            await caller.speak(words, silence_s=0.7)
            await caller.until("audio")
            os.kill(running.pids["llm"], signal.SIGKILL)
            await caller.until("reply_done", turn=1, status="completed")
            heard_ms(reply_text(caller, 1))
            assert_ramp(bytes(caller.audio), 6 * SECOND)


async def test_typed_turns_and_realtime_clients(omni_server: System, speech_pcm: Speech) -> None:
    async with calling(omni_server.url) as caller:
        await caller.send("text_input", text="good evening")
        await caller.until("reply_done", turn=1, status="completed")
        assert reply_text(caller, 1) == SCRIPT
    async with talking(omni_server.url) as talk:
        await talk.speak(speech_pcm("hello there how are you today my friend", 24_000), 0.8)
        await talk.until("response.done")
        await talk.until("conversation.item.input_audio_transcription.completed")
        text = "".join(event.delta for event in talk.of("response.output_audio_transcript.delta"))
        assert heard_ms(text) > 1000


async def test_a_realtime_client_that_pushes_to_talk_is_heard_too(omni_server: System, speech_pcm: Speech) -> None:
    async with talking(omni_server.url) as talk:
        manual: Any = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await talk.connection.session.update(session=manual)
        await talk.until("session.updated")
        await talk.speak(speech_pcm("hello there how are you today my friend", 24_000), 0.0)
        await talk.connection.input_audio_buffer.commit()
        await talk.connection.response.create()
        await talk.until("response.done")
        text = "".join(event.delta for event in talk.of("response.output_audio_transcript.delta"))
        assert heard_ms(text) > 1000
        await talk.until("conversation.item.input_audio_transcription.completed")


async def test_the_greeting_is_said_word_for_word(omni_server: System) -> None:
    async with calling(omni_server.url, greeting="Welcome to the show.") as caller:
        await caller.until("reply_done", turn=1, status="completed")
        assert reply_text(caller, 1) == "Welcome to the show."
        assert caller.audio


async def test_a_model_that_cannot_hear_is_refused_before_the_first_turn(parley_server: System) -> None:
    async with calling(parley_server.url, start=False) as caller:
        await caller.send("start_streaming", config={"route": "omni"})
        assert "cannot hear" in (await caller.until("error", code="cannot_hear"))["message"]
        closed = await caller.until("closed")
        assert (closed["code"], closed["reason"]) == (1008, "route omni: the chat model cannot hear")
    async with calling(parley_server.url) as caller:
        await caller.send("configure", config={"route": "omni"})
        await caller.until("error", code="cannot_hear")
        await caller.send("text_input", text="good evening")
        await caller.until("reply_done", turn=1, status="completed")
    async with talking(parley_server.url) as talk:
        omni: Any = {"type": "realtime", "route": "omni"}
        await talk.connection.session.update(session=omni)
        at = await talk.until("error")
        assert "session.route" in talk.events[at].error.message
