"""Turn-taking through the whole system: prepared replies, false interruptions, the prompt."""

import asyncio
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.client.performance import cough
from shared.audio.pcm import Resampler
from tests.conftest import system
from tests.support.caller import Caller, calling
from tests.support.phone import SAMPLES_PER_S
from tests.support.phone import calling as phone_calling
from tests.support.realtime_talk import talking
from tests.support.system import SCRIPTED, System

SECOND = 16_000
REPLY = "This is a scripted reply with a good number of words in it that streams in twenty deltas to its end."

Speech = Callable[[str, int], bytes]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line for each time that the chat model was asked."""
    return tmp_path_factory.mktemp("model") / "calls"


@pytest.fixture(scope="module")
def patient_server(calls: Path) -> Iterator[System]:
    """Replies of six seconds; speech shorter than a word is ignored; a model that counts, an engine for the end of turns."""
    env = {
        **SCRIPTED,
        "PARLEY_SCRIPTED_TTS_SECONDS": "6",
        "PARLEY_SCRIPTED_ASR_LEAST_MS": "900",  # 300 of them are from before the first sound
        "PARLEY_LLM_ENGINE": "tests.support.engines:CountedModel",
        "PARLEY_INSTRUCTIONS": "",  # nor the examples of the default agent
        "PARLEY_ENDPOINT_ENGINE": "tests.support.engines:SoonOver",
        "TEST_CALLS": str(calls),
        "PYTHONPATH": str(Path.cwd()),
    }
    with system(env) as running:
        yield running


@pytest.fixture
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", SECOND)


def a_cough() -> bytes:
    return (cough() * 32_767).astype("<i2").tobytes()


def assert_ramp(audio: bytes, samples: int) -> None:
    assert struct.unpack(f"<{len(audio) // 2}h", audio) == tuple(index % 32_768 for index in range(samples))


async def first_reply(caller: Caller, words: bytes) -> None:
    await caller.speak(words, silence_s=0.6)
    await caller.until("audio")


async def test_the_reply_is_ready_when_the_turn_ends_and_the_model_is_asked_once(
    patient_server: System, calls: Path, words: bytes
) -> None:
    calls.write_text("")
    async with calling(patient_server.url, adapt_endpoint=False, endpoint_ms=1500) as caller:
        await caller.speak(words, silence_s=1.7)
        marks = (await caller.until("timing"))["marks"]
        assert marks["first_sentence"] < 1480 <= marks["endpoint"] <= marks["first_audio"]
        await caller.until("reply_done", turn=1, status="completed")
    assert calls.read_text().splitlines() == ["user: hello there"]


async def test_without_speculation_the_work_begins_at_the_end(
    patient_server: System, calls: Path, words: bytes
) -> None:
    calls.write_text("")
    async with calling(patient_server.url, adapt_endpoint=False, speculations=0) as caller:
        await caller.speak(words, silence_s=0.7)
        marks = (await caller.until("timing"))["marks"]
        assert marks["endpoint"] <= marks["transcript"] <= marks["first_token"] <= marks["first_audio"]
    assert len(calls.read_text().splitlines()) == 1


async def test_a_pause_within_a_turn_is_answered_once_as_a_whole(
    patient_server: System, calls: Path, words: bytes
) -> None:
    calls.write_text("")
    async with calling(patient_server.url, adapt_endpoint=False) as caller:
        await caller.speak(words, silence_s=0.34)
        assert caller.of("audio") == caller.of("reply_started") == []
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", status="completed")
        assert [event["turn"] for event in caller.of("reply_started")] == [1]
        assert len(caller.of("transcript", final=True)) == 1
        assert_ramp(bytes(caller.audio), 6 * SECOND)
    assert len(calls.read_text().splitlines()) == 2  # once for each pause: the first reply is discarded


async def test_the_engine_for_the_end_of_turns_gets_sound_and_words_and_is_believed(
    patient_server: System, words: bytes
) -> None:
    async with calling(patient_server.url, complete_ms=260) as caller:
        await caller.speak(words, silence_s=0.7)
        timing = await caller.until("timing")
        assert 240 <= timing["marks"]["endpoint"] < 1500  # it is 2000 where the turn seems incomplete
        assert timing["reasons"] == ["said: hello there"]


async def test_a_cough_is_forgiven_to_the_sample(patient_server: System, words: bytes) -> None:
    async with calling(patient_server.url) as caller:
        await first_reply(caller, words)
        await caller.speak(a_cough(), silence_s=1.0)
        paused = await caller.until("pause", turn=1)
        resumed = await caller.until("resume", turn=1)
        assert abs(resumed["from_ms"] - paused["heard_ms"]) <= 1
        await caller.until("reply_done", turn=1, status="completed")
        assert caller.of("interrupt") == []
        assert_ramp(bytes(caller.audio), 6 * SECOND)
        await caller.send("get_history")
        said = (await caller.until("history"))["messages"]
        assert [(one["role"], one["text"], one["interrupted"]) for one in said] == [
            ("user", "hello there", False),
            ("assistant", REPLY, False),
        ]


async def test_a_carrier_is_cleared_after_a_cough_and_sent_the_rest_again(
    patient_server: System, speech_pcm: Speech
) -> None:
    async with phone_calling(patient_server.url) as phone:
        phone.speak(speech_pcm("hello there how are you today my friend", SAMPLES_PER_S))
        await phone.until(lambda: len(phone.heard) > SAMPLES_PER_S)
        phone.speak(Resampler(SECOND, SAMPLES_PER_S).process(a_cough()))
        await phone.until(lambda: bool(phone.clears))
        await phone.until(lambda: phone.echoed[-1] == f"t1:{6 * SAMPLES_PER_S}:1")
        assert len(phone.clears) == 1
        assert phone.clears[0] < 3 * SAMPLES_PER_S
        # What the caller heard twice, or not at all, is no longer than what lies between two marks.
        assert abs(len(phone.heard) - 6 * SAMPLES_PER_S) < SAMPLES_PER_S // 4


async def test_a_realtime_client_gets_a_response_for_the_rest_from_where_it_stopped(
    patient_server: System, speech_pcm: Speech
) -> None:
    async with talking(patient_server.url) as talk:
        await talk.speak(speech_pcm("hello there how are you today my friend", 24_000))
        await talk.until("response.output_audio.delta")
        await talk.speak(b"", 1.2)
        before = len(talk.events)
        cough_24k = Resampler(SECOND, 24_000).process(a_cough())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk.speak(cough_24k, 1.0))
            await talk.until("input_audio_buffer.speech_started", before)
            item = talk.of("response.output_item.added")[0].item
            await talk.connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=1000)
            created = await talk.until("response.created", before)
        done = await talk.until("response.done", created)
        assert talk.events[done].response.status == "completed"
        assert len(talk.sound(created)) == 2 * 24_000 * 5  # of six seconds, from the end of the first one on
        rest = "".join(event.delta for event in talk.of("response.output_audio_transcript.delta", created))
        assert REPLY.endswith(rest)
        assert len(rest.split()) == pytest.approx(len(REPLY.split()) * 5 / 6, abs=1)


async def test_words_end_a_reply_and_the_model_gets_what_was_heard(
    patient_server: System, calls: Path, words: bytes
) -> None:
    async with calling(patient_server.url) as caller:
        await first_reply(caller, words)
        await caller.speak(b"", silence_s=1.2)
        calls.write_text("")
        await caller.speak(words, silence_s=0.8)
        interrupt = await caller.until("interrupt", turn=1)
        assert 1000 < interrupt["heard_ms"] < 3000
        heard = interrupt["heard"]
        assert REPLY.startswith(heard)
        assert len(heard.split()) == pytest.approx(interrupt["heard_ms"] / 6000 * len(REPLY.split()), abs=1)
        await caller.until("reply_started", turn=2)
    (received,) = set(calls.read_text().splitlines())
    assert received.startswith(f"user: hello there | assistant: {heard} |")
    assert received.endswith("| user: hello there")


async def test_a_call_from_greeting_to_goodbye(patient_server: System, calls: Path) -> None:
    calls.write_text("")
    config = {"greeting": "Welcome to the show.", "goodbye": "Bye bye.", "idle_ms": 60_000}
    async with calling(patient_server.url, **config) as caller:
        await caller.until("reply_done", turn=1, status="completed")
        assert "".join(event["text"] for event in caller.of("model_response", turn=1)) == "Welcome to the show."
        await caller.send("say", text="By the way, we close soon.")
        await caller.until("processing_started", turn=2)
        assert caller.of("interrupt") == []  # it waits for the greeting
        await caller.until("reply_done", turn=2, status="completed")
        await caller.send("cancel")
        await caller.until("interrupt", turn=2)
        await caller.send("hang_up")
        await caller.until("reply_done", turn=3, status="completed")
        closed = await caller.until("closed")
        assert (closed["code"], closed["reason"]) == (1000, "goodbye")
    assert calls.read_text() == ""  # nobody thought about it


async def test_push_to_talk(patient_server: System, words: bytes) -> None:
    async with calling(patient_server.url, detect_turns=False) as caller:
        await caller.speak(words, silence_s=1.0)
        assert caller.of("processing_started") == []
        await caller.send("commit")
        await caller.until("reply_started", turn=1)
        await caller.speak(words)
        await caller.send("clear")
        await caller.send("commit")
        await caller.speak(b"", silence_s=0.5)
        assert len(caller.of("processing_started")) == 1
