"""Whole conversations on the profile light: real models, heard, answered and spoken, without a network."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.wer import read_clips, word_error_rate
from tests.conftest import system
from tests.pipeline.test_human_speech import recording
from tests.support.caller import Caller, calling
from tests.support.light_models import light_env, light_model
from tests.support.system import System

AT_MOST_HEARD_WRONG, AT_MOST_SPOKEN_WRONG = 0.08, 0.15
"""Word error rates: of the recordings, and of replies that a recogniser hears."""


@pytest.fixture(scope="module")
def light_server() -> Iterator[System]:
    one_turn = {"PARLEY_ENDPOINT_ENGINE": "fixed", "PARLEY_ENDPOINT_MS": "1500"}  # a clip, whatever its pauses
    with system(light_env(PARLEY_REPLY_TOKENS="40", **one_turn)) as running:
        yield running


@pytest.fixture
async def caller(light_server: System) -> AsyncIterator[Caller]:
    async with calling(light_server.url) as caller:
        yield caller


@pytest.fixture(scope="module")
def recognizer() -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(light_model("whisper-tiny.en")), device="cpu", compute_type="int8", cpu_threads=1)


async def test_recordings_of_people_are_understood_and_answered_in_speech(light_server: System, clips: Path) -> None:
    said, heard = [], []
    for clip in read_clips(clips):
        async with calling(light_server.url) as caller:
            await caller.speak(recording(clip.file), silence_s=2.0)
            await caller.until("audio")
            transcripts = [event["text"] for event in caller.of("transcript") if event["final"]]
        said.append(clip.text)
        heard.append(" ".join(transcripts))
    assert word_error_rate(said, heard) <= AT_MOST_HEARD_WRONG, list(zip(said, heard, strict=True))


async def test_a_reply_is_spoken_word_for_word(caller: Caller, recognizer: Any) -> None:
    replies, spoken = [], []
    for turn, text in enumerate(("What is the capital of France?", "Who are you?", "Tell me about the sea."), 1):
        caller.audio.clear()
        await caller.send("text_input", text=text)
        await caller.until("reply_done", turn=turn, status="completed")
        replies.append("".join(event["text"] for event in caller.of("model_response") if event["turn"] == turn))
        audio = np.frombuffer(caller.audio, "<i2").astype(np.float32) / 32_768
        segments, _ = recognizer.transcribe(audio, language="en", beam_size=5)
        spoken.append(" ".join(segment.text for segment in segments))
    assert word_error_rate(replies, spoken) <= AT_MOST_SPOKEN_WRONG, list(zip(replies, spoken, strict=True))


@pytest.mark.parametrize(
    ("question", "word"), [("What is the capital of France?", "Paris"), ("Who are you?", "Parley")]
)
async def test_a_reply_is_an_answer_and_follows_the_instructions(caller: Caller, question: str, word: str) -> None:
    await caller.send("text_input", text=question)
    await caller.until("reply_done", status="completed")
    assert word in "".join(event["text"] for event in caller.of("model_response"))


@pytest.mark.parametrize(
    ("agent", "manner"),
    [("captain", r"(?i)\barr|\bye\b|\bbe\b|matey|pirate|\baye\b|ahoy|\bme (old|ship)"), ("host", r"\?$")],
)
async def test_a_reply_has_the_manner_of_its_agent(light_server: System, agent: str, manner: str) -> None:
    replies = []
    for text in ("I like football.", "I am a teacher.", "I have a dog."):
        async with calling(light_server.url, agent=agent, greeting="") as caller:
            await caller.send("text_input", text=text)
            await caller.until("reply_done", status="completed")
            replies.append("".join(event["text"] for event in caller.of("model_response")).strip())
    assert sum(bool(re.search(manner, reply)) for reply in replies) >= 2, replies
    assert not [reply for reply in replies if reply[-1] not in ".!?\"'"], replies
