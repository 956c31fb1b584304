"""Whole scenarios through all processes on a real broker, with the scripted engines."""

import asyncio
import struct
from collections.abc import Callable

import httpx
import pytest

from tests.support.caller import Caller, calling
from tests.support.system import System

Speech = Callable[[str, int], bytes]

SECOND = 16_000
TRANSCRIPT = "hello there"


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", 16_000)


def assert_ramp(audio: bytes, samples: int = SECOND) -> None:
    """The scripted voice numbers its samples: none is lost, doubled or out of order."""
    assert len(audio) == 2 * samples
    assert struct.unpack(f"<{samples}h", audio) == tuple(index % SECOND for index in range(samples))


async def turn(caller: Caller, words: bytes, number: int) -> None:
    await caller.speak(words, silence_s=0.7)
    await caller.until("reply_done", turn=number)


async def test_a_spoken_turn_is_answered(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url) as caller:
        await turn(caller, words, 1)
        kinds = [event["type"] for event in caller.events]
        order = ["ready", "vad_status", "processing_started", "reply_started", "audio", "reply_done"]
        places = [kinds.index(kind) for kind in order]
        assert places == sorted(places)
        assert (await caller.until("transcript", final=True))["text"] == TRANSCRIPT
        assert caller.of("reply_done")[0]["status"] == "completed"
        reply = "".join(event["text"] for event in caller.of("model_response"))
        assert reply.startswith("This is a scripted reply")
        assert_ramp(bytes(caller.audio))
        marks = caller.of("timing")[-1]["marks"]
        assert 480 <= marks["endpoint"] <= marks["first_audio"]
        assert (
            marks["transcript"] <= marks["first_token"] < marks["endpoint"]
        )  # the reply was ready when the turn ended


async def test_several_turns_each_once(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url) as caller:
        for number in (1, 2, 3):
            await caller.speak(words, silence_s=0.7)
            await caller.until("reply_done", turn=number, status="completed")
            await caller.speak(b"", silence_s=1.5)  # the reply plays to its end
        assert [event["turn"] for event in caller.of("processing_started")] == [1, 2, 3]
        assert not caller.of("interrupt")
        assert len(caller.audio) == 3 * 2 * SECOND
        for number in range(3):
            assert_ramp(bytes(caller.audio[2 * SECOND * number : 2 * SECOND * (number + 1)]))


async def test_barge_in_silences_the_reply_and_the_new_turn_is_answered(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url) as caller:
        await caller.speak(words, silence_s=0.65)
        await caller.until("audio")
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=2, status="completed")
        interrupt = caller.of("interrupt", turn=1)
        assert len(interrupt) == 1
        assert 0 < interrupt[0]["heard_ms"] < 1000
        after = caller.events[caller.events.index(interrupt[0]) :]
        audio = [event for event in after if event["type"] == "audio"]
        started = next(event for event in after if event["type"] == "reply_started")
        assert started["turn"] == 2
        assert all(event["at_s"] >= started["at_s"] for event in audio)
        assert_ramp(b"".join(event["pcm"] for event in audio))


async def test_two_sessions_do_not_mix(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url) as one, calling(parley_server.url) as other:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(turn(one, words, 1))
            await asyncio.sleep(0.3)
            tasks.create_task(turn(other, words, 1))
        ids = {caller.of("ready")[0]["session_id"] for caller in (one, other)}
        assert len(ids) == 2
        for caller in (one, other):
            assert_ramp(bytes(caller.audio))
            assert len(caller.of("reply_done")) == 1


async def test_a_typed_turn_is_answered_without_a_microphone(parley_server: System) -> None:
    async with calling(parley_server.url) as caller:
        await caller.send("text_input", text="good morning")
        await caller.until("reply_done", turn=1, status="completed")
        assert_ramp(bytes(caller.audio))
        await caller.send("text_input", text="and again")
        await caller.until("reply_done", turn=2, status="completed")


async def test_typing_interrupts_what_is_being_said(parley_server: System) -> None:
    async with calling(parley_server.url) as caller:
        await caller.send("text_input", text="good morning")
        await caller.until("reply_done", turn=1)
        await caller.send("text_input", text="wait")
        await caller.until("interrupt", turn=1)
        await caller.until("reply_done", turn=2, status="completed")


async def test_the_end_of_the_stream_is_the_end_of_the_turn(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url) as caller:
        await caller.speak(words)
        await caller.send("stop_streaming")
        await caller.until("reply_done", turn=1, status="completed")


@pytest.mark.parametrize("rate_hz", [8000, 24000, 48000])
async def test_other_rates_both_ways(parley_server: System, speech_pcm: Speech, rate_hz: int) -> None:
    async with calling(parley_server.url, rate_hz=rate_hz) as caller:
        pcm = speech_pcm("hello there how are you today my friend", rate_hz) + bytes(2 * rate_hz)
        for at in range(0, len(pcm), rate_hz // 25):
            await caller.send_raw(pcm[at : at + rate_hz // 25])
        await caller.until("reply_done", turn=1, status="completed")
        assert abs(len(caller.audio) // 2 - rate_hz) <= 2


async def test_steady_noise_is_no_turn(parley_server: System) -> None:
    import random

    noise = random.Random(1)
    pcm = struct.pack("<48000h", *(int(noise.gauss(0, 600)) for _ in range(48_000)))
    async with calling(parley_server.url) as caller:
        await caller.speak(pcm)
        assert not caller.of("processing_started")


async def test_what_is_wrong_is_said_and_the_session_goes_on(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url, start=False) as caller:
        await caller.send_raw(bytes(640))
        await caller.until("error", code="not_started")
        await caller.send("start_streaming", config={"endpoint_ms": "soon"})
        await caller.until("error", code="bad_field")
        await caller.send("start_streaming")
        await caller.until("ready")
        for message, code in (
            ("{", "bad_json"),
            ('{"type": "sing"}', "unknown_type"),
            ("[]", "unknown_type"),
            ('{"type": "text_input"}', "bad_field"),
            ('{"type": "start_streaming"}', "already_started"),
        ):
            await caller.send_raw(message)
            await caller.until("error", code=code)
        await turn(caller, words, 1)


async def test_an_unknown_voice_is_refused_by_name(parley_server: System) -> None:
    async with calling(parley_server.url, start=False) as caller:
        await caller.send("start_streaming", config={"voice": "caruso"})
        error = await caller.until("error", code="unknown_voice")
        assert "caruso" in error["message"]
        assert "scripted" in error["message"]
        assert (await caller.until("closed"))["code"] == 1008


async def test_an_unknown_rate_is_refused(parley_server: System) -> None:
    async with calling(parley_server.url, start=False, rate_hz=11_025) as caller:
        closed = await caller.until("closed")
        assert closed["code"] == 1008
        assert "16000" in closed["reason"]


async def test_audio_far_faster_than_real_time_is_refused(parley_server: System) -> None:
    async with calling(parley_server.url) as caller:
        for _ in range(40):
            await caller.send_raw(bytes(32_000))
        await caller.until("error", code="audio_too_fast")
        await caller.send("get_stats")
        stats = await caller.until("stats")
        assert stats["dropped_samples"] > 0


async def test_a_client_that_goes_on_with_that_is_closed(parley_server: System) -> None:
    async with calling(parley_server.url) as caller:
        for _ in range(400):
            await caller.send_raw(bytes(32_000))
        closed = await caller.until("closed")
        assert (closed["code"], closed["reason"]) == (1008, "audio arrives much faster than real time")


async def test_an_oversize_message_ends_its_own_session_only(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url) as one, calling(parley_server.url) as other:
        await one.send_raw(bytes(2 * 1024 * 1024))
        assert (await one.until("closed"))["code"] == 1009
        await turn(other, words, 1)


async def test_health_config_and_page(parley_server: System) -> None:
    async with httpx.AsyncClient(base_url=parley_server.url, trust_env=False) as client:
        health = await client.get("/health")
        assert health.status_code == 200
        assert {name: stage["ready"] for name, stage in health.json()["stages"].items()} == dict.fromkeys(
            ("vad", "asr", "llm", "tts"), 1
        )
        assert (await client.get("/config")).json()["voices"] == ["scripted"]
        assert (await client.post("/test-connection")).json()["ok"] is True
        assert (await client.get("/stats")).status_code == 200
        page = await client.get("/")
        assert page.status_code == 200
        assert (
            "script-src" not in page.headers["content-security-policy"]
            or "unsafe" not in page.headers["content-security-policy"]
        )
        assert (await client.get("/web/../app.py")).status_code == 404
