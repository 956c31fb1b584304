"""What dies does not end the conversation: kill -9 of each worker in the middle of a turn, and of the broker."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio as redis

from tests.conftest import system
from tests.support.caller import Caller, calling
from tests.support.engines import SLICE, SLICES, TEXT
from tests.support.ramp import assert_exact
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S

Speech = Callable[[str, int], bytes]

SLOW = {
    **SCRIPTED,
    "PARLEY_LEASE_MS": "600",
    "PARLEY_LLM_ENGINE": "tests.support.engines:SlowModel",
    "PARLEY_TTS_ENGINE": "tests.support.engines:SlowVoice",
    "PARLEY_SCRIPTED_ASR_MS": "1500",  # it still recognises for a second after the endpoint
    "PYTHONPATH": str(Path.cwd()),
}
SENTENCES = 3


@pytest.fixture(scope="module")
def slow_system() -> Iterator[System]:
    """Its processes are killed and come back; a test leaves it as whole as it was."""
    with system(SLOW) as running:
        yield running


@pytest.fixture
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", 16_000)


@asynccontextmanager
async def second_worker(system: System, stage: str) -> AsyncIterator[None]:
    """One more worker of the stage; it is ready, and so is the system's own."""
    env = {**os.environ, **SLOW, "PARLEY_REDIS_URL": system.broker_url}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", f"services.{stage}", env=env)
    try:
        async with asyncio.timeout(HANG_S), redis.Redis.from_url(system.broker_url) as client:
            while not {process.pid, system.pids.get(stage)} <= await ready_workers(client, stage):
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def ready_workers(client: "redis.Redis[Any]", stage: str) -> set[int | None]:
    """Process ids of the stage's ready workers, and of some that have died since."""
    return {
        pid_of(json.loads(member)["consumer"]) for member in await client.zrange(f"parley:{{0}}:ready:{stage}", 0, -1)
    }


def pid_of(consumer: str) -> int:
    return int(consumer.split(":")[2])


async def kill_owner(system: System, stage: str) -> None:
    """kill -9 of the process that holds the stage's work."""
    async with redis.Redis.from_url(system.broker_url, decode_responses=True) as client:
        async with asyncio.timeout(HANG_S):
            while not (held := await client.xpending_range(f"parley:{{0}}:jobs:{stage}", stage, "-", "+", 1)):
                await asyncio.sleep(0.005)
    os.kill(pid_of(held[0]["consumer"]), signal.SIGKILL)


def reply_text(caller: Caller) -> str:
    return "".join(event["text"] for event in caller.of("model_response"))


def assert_whole(caller: Caller) -> None:
    """The reply was given exactly once: every letter, every sample, in order."""
    assert reply_text(caller) == TEXT
    assert_exact(bytes(caller.audio), list(range(SLICE * SLICES)) * SENTENCES)
    assert len(caller.of("reply_done")) == 1
    assert caller.of("reply_done")[0]["status"] == "completed"
    assert [event["text"] for event in caller.of("transcript", final=True)] == ["hello there"]
    assert len(caller.of("processing_started")) == 1


@pytest.mark.parametrize("stage", ["vad", "asr", "llm", "tts"])
async def test_a_second_worker_finishes_the_turn_of_one_that_was_killed(
    slow_system: System, stage: str, words: bytes
) -> None:
    async with second_worker(slow_system, stage), calling(slow_system.url) as caller:
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(caller.speak(words, silence_s=4.0))
            match stage:
                case "vad":
                    await caller.until("vad_status", is_speaking=True)
                case "asr":
                    await caller.until("processing_started")
                case "llm":
                    await caller.where(lambda _: "second" in reply_text(caller), HANG_S, "second sentence")
                case _:
                    await caller.until("audio")
            await kill_owner(slow_system, stage)
            await caller.until("reply_done")
            await speaking
        assert_whole(caller)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says how often the voice of `fragile_system` still loses its device."""
    return tmp_path_factory.mktemp("voice") / "losses"


@pytest.fixture(scope="module")
def fragile_system(losses: Path) -> Iterator[System]:
    """Work that ended two workers is given up."""
    losses.write_text("0")
    voice = {"PARLEY_TTS_ENGINE": "tests.support.engines:LostVoice", "TEST_LOSSES": str(losses)}
    with system({**SLOW, **voice, "PARLEY_MAX_DELIVERIES": "2"}) as running:
        yield running


async def test_a_lost_engine_ends_its_worker_and_its_work_is_done_by_the_next(
    fragile_system: System, losses: Path, words: bytes
) -> None:
    losses.write_text("1")
    async with calling(fragile_system.url) as caller:
        await caller.speak(words, silence_s=1.5)
        await caller.until("reply_done")
        assert_whole(caller)
        assert any("no memory left" in line for line in fragile_system.journal.lines)
        assert any("exited with code 3" in event for event in fragile_system.journal.events)


async def test_work_that_ends_every_worker_is_given_up_and_the_session_lives(
    fragile_system: System, losses: Path
) -> None:
    losses.write_text("2")
    async with calling(fragile_system.url) as caller:
        await caller.send("text_input", text="one")
        error = await caller.until("error")
        assert "no memory left" in error["message"]
        await caller.send("text_input", text="two")
        await caller.until("reply_done", turn=2, status="completed")


async def test_the_session_goes_on_after_its_listener_died_between_turns(slow_system: System, words: bytes) -> None:
    async with second_worker(slow_system, "vad"), calling(slow_system.url) as caller:
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=1)
        await kill_owner(slow_system, "vad")
        await caller.speak(b"", silence_s=2.0)
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=2, status="completed")
        assert [event["turn"] for event in caller.of("processing_started")] == [1, 2]


async def test_a_broker_that_comes_back_serves_the_next_session(slow_system: System, words: bytes) -> None:
    async with calling(slow_system.url) as caller:
        os.kill(slow_system.pids["broker"], signal.SIGKILL)
        closed = await caller.until("closed")
        assert closed["code"] == 1012
        assert caller.of("error", code="closing")
    pids = {name: pid for name, pid in slow_system.pids.items() if name != "broker"}
    async with calling(slow_system.url, start=False) as refused:
        await refused.until("closed", code=1013)
    async with asyncio.timeout(HANG_S), httpx.AsyncClient(base_url=slow_system.url, trust_env=False) as client:
        while (await client.get("/health")).status_code != 200:
            await asyncio.sleep(0.1)
    async with calling(slow_system.url) as caller:
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=1, status="completed")
    assert pids == {name: pid for name, pid in slow_system.pids.items() if name != "broker"}


async def test_bad_entries_are_set_aside_and_the_session_goes_on(parley_server: System, words: bytes) -> None:
    async with (
        redis.Redis.from_url(parley_server.broker_url) as client,
        calling(parley_server.url) as caller,
    ):
        session = caller.of("ready")[0]["session_id"]
        before = {
            stage: await client.xlen(f"parley:{{0}}:dead:{stage}") for stage in ("vad", "asr", "llm", "tts", "edge")
        }
        await client.xadd(f"parley:{{0}}:in:{session}", {"f": b"\xc1 no frame"})
        await client.xadd(f"parley:{{0}}:in:{session}", {"other": "field"})
        await client.xadd(f"parley:{{0}}:out:{session}", {"f": b"\x91\x07"})
        for stage in ("vad", "asr", "llm", "tts"):
            await client.xadd(f"parley:{{0}}:jobs:{stage}", {"f": b"garbage"})
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(caller.speak(words, silence_s=0.7))
            await caller.until("vad_status", is_speaking=True)
            await client.xadd(f"parley:{{0}}:speech:{session}", {"f": b""})
            await speaking
        await caller.until("reply_done", turn=1, status="completed")
        after = {stage: await client.xlen(f"parley:{{0}}:dead:{stage}") for stage in before}
        assert {stage: after[stage] - before[stage] for stage in before} == {
            "vad": 3,
            "asr": 2,
            "llm": 1,
            "tts": 1,
            "edge": 1,
        }
        for stage in ("vad", "asr", "llm", "tts"):
            held = await client.xpending(f"parley:{{0}}:jobs:{stage}", stage)
            assert held["pending"] <= (1 if stage == "vad" else 0)
