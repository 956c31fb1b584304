"""Whole conversations on the neural profile: the real engines and architectures, all but the detector tiny and with random weights."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
import pytest

from shared.worker.service import EXIT_SETTINGS
from tests.conftest import system
from tests.support import random_models
from tests.support.caller import Caller, calling
from tests.support.light_models import light_model
from tests.support.system import System
from tests.support.waiting import HANG_S, POLL_S

Speech = Callable[[str, int], bytes]


@pytest.fixture(scope="module")
def neural_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    models = tmp_path_factory.mktemp("models")
    env = {
        "PARLEY_PROFILE": "neural",
        "PARLEY_DEVICE": "cpu",
        "PARLEY_MODELS_DIR": str(light_model("silero-vad").parent),
        "PARLEY_ASR_MODEL": str(random_models.whisper(models / "whisper", tokens=6)),
        "PARLEY_LLM_MODEL": str(random_models.chat(models / "chat")),
        "PARLEY_TTS_MODEL": str(random_models.kokoro(models / "kokoro")),
        "PARLEY_REPLY_TOKENS": "3",
        "PARLEY_LEASE_MS": "1000",
        "HF_HUB_OFFLINE": "1",
    }
    with system(env) as running:
        yield running


@pytest.fixture
async def caller(neural_server: System) -> AsyncIterator[Caller]:
    async with calling(neural_server.url) as caller:
        yield caller


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", 16_000)


def loudness(audio: bytes) -> float:
    return float(np.abs(np.frombuffer(audio, "<i2")).max(initial=0))


async def test_what_is_said_is_heard_answered_and_spoken(caller: Caller, words: bytes) -> None:
    for turn in (1, 2):
        await caller.speak(words, silence_s=1.0)
        done = await caller.until("reply_done", turn=turn)
        assert done["status"] == "completed"
        assert (await caller.until("transcript", turn=turn, final=True))["text"]
        assert any(event["turn"] == turn for event in caller.of("model_response"))
    assert len(caller.audio) > 16_000
    assert loudness(bytes(caller.audio)) > 3000


async def test_several_talk_at_once(neural_server: System, words: bytes) -> None:
    async def talk() -> str:
        async with calling(neural_server.url) as caller:
            await caller.speak(words, silence_s=1.0)
            await caller.until("reply_done", status="completed")
            return str((await caller.until("transcript", final=True))["text"])

    said = await asyncio.gather(*(talk() for _ in range(2)))
    assert all(said)


@pytest.mark.parametrize("stage", ["llm", "tts"])
async def test_a_killed_worker_comes_back_and_the_reply_goes_on(
    neural_server: System, caller: Caller, words: bytes, stage: str
) -> None:
    await caller.speak(words, silence_s=0.3)
    os.kill(neural_server.pids[stage], signal.SIGKILL)
    await caller.speak(b"", silence_s=1.0)
    done = await caller.until("reply_done")
    assert done["status"] == "completed"
    assert loudness(bytes(caller.audio)) > 3000
    # The reply may have been complete before the worker was killed, and the next test needs the worker.
    await until_ready(neural_server.url)


async def until_ready(url: str) -> None:
    """Wait until every stage has a ready worker again."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(HANG_S):
        while (await client.get(f"{url}/health")).status_code != HTTPStatus.OK:
            await asyncio.sleep(POLL_S)


async def test_a_model_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    settings = {"PARLEY_TTS_ENGINE": "kokoro", "PARLEY_TTS_MODEL": str(tmp_path / "nothing"), "HF_HUB_OFFLINE": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.tts", env={**os.environ, **settings}, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == EXIT_SETTINGS
    assert "nothing" in said.decode()
