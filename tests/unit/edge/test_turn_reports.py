"""Reports of a session's turns: latency, segments, reaction to speech, and the record of each turn."""

import asyncio

from prometheus_client import REGISTRY

from services.edge.client import actions as act
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.session import Session
from shared.protocol import frames as fr
from shared.protocol.session import RATE_HZ, ReplyOptions, SessionSettings
from shared.settings import Settings
from tests.support.line import Line, on_a_line

SILENCE_20_MS = bytes(2 * RATE_HZ // 50)


def read(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"parley_{name}", labels) or 0.0


@on_a_line
async def test_a_spoken_turn_is_timed_and_recorded() -> None:
    before = read("turn_latency_seconds_count", protocol="stream")
    parts = read("turn_segment_seconds_count", segment="endpoint", stage="vad", engine="vad")
    line = Line()
    line.turn(1, "hello", "Good morning.")
    await asyncio.sleep(3)
    assert read("turn_latency_seconds_count", protocol="stream") == before + 1
    assert read("turn_segment_seconds_count", segment="endpoint", stage="vad", engine="vad") == parts + 1
    (record,) = line.bus.turns
    assert (record.session, record.turn, record.outcome, record.protocol) == (line.id, 1, "completed", "stream")
    assert record.reply_ms == record.heard_ms == 1000
    assert {"paused", "transcript", "first_token", "first_sentence", "voice", "endpoint", "first_audio"} <= set(
        record.marks
    )
    assert "Good" not in repr(record)


@on_a_line
async def test_a_record_has_what_was_said_and_heard_only_where_content_may_be_logged() -> None:
    texts = []
    for content in (True, False):
        line = Line(content=content)
        line.turn(1, "hello", "Good morning.")
        await asyncio.sleep(3)
        line.asked(2, "what now")
        line.reply(2, "Go on.")
        await asyncio.sleep(3)
        texts.append([(record.said, record.reply) for record in line.bus.turns])
    assert texts == [[("hello", "Good morning."), ("what now", "Go on.")], [("", "")] * 2]


@on_a_line
async def test_a_typed_turn_is_recorded_and_counts_not_for_the_voice() -> None:
    before = read("turn_latency_seconds_count", protocol="stream")
    line = Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning.")
    await asyncio.sleep(3)
    assert read("turn_latency_seconds_count", protocol="stream") == before
    assert [record.turn for record in line.bus.turns] == [1]


@on_a_line
async def test_the_reaction_is_counted_in_samples_of_the_microphone() -> None:
    count, total = read("barge_in_seconds_count", protocol="stream"), read("barge_in_seconds_sum", protocol="stream")
    line = Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning to you.", seconds=10)
    for _ in range(100):
        line.do(act.Audio(SILENCE_20_MS))
        await asyncio.sleep(0.02)
    onset = 2 * RATE_HZ - RATE_HZ // 10  # speech since the last 100 ms
    line.log(fr.SpeechStarted(line.id, 2, 0, onset, onset, "0-0", "en", True))
    assert read("barge_in_seconds_count", protocol="stream") == count + 1
    assert abs(read("barge_in_seconds_sum", protocol="stream") - total - 0.1) < 0.021


@on_a_line
async def test_speech_into_silence_is_no_barge_in() -> None:
    count = read("barge_in_seconds_count", protocol="stream")
    line = Line()
    line.speech(1)
    assert read("barge_in_seconds_count", protocol="stream") == count


@on_a_line
async def test_what_the_client_reports_tells_when_it_was_heard() -> None:
    count, total = (
        read("turn_heard_latency_seconds_count", protocol="stream"),
        read("turn_heard_latency_seconds_sum", protocol="stream"),
    )
    line = Line()
    line.turn(1, "hello", "Good morning.", seconds=5)
    await asyncio.sleep(0.35)
    line.do(act.Played(1, 250))  # it began 100 ms after it was sent
    line.do(act.Played(1, 300))
    assert read("turn_heard_latency_seconds_count", protocol="stream") == count + 1
    heard_s = read("turn_heard_latency_seconds_sum", protocol="stream") - total
    marks = line.session.conversation.state.turns[1].report.marks()
    assert abs(heard_s - (marks["first_audio"] / 1000 + 0.1)) < 0.002


@on_a_line
async def test_a_reply_that_comes_too_slowly_starves_its_client_once() -> None:
    before = read("playback_underruns_total", protocol="stream")
    line = Line()
    line.asked(1, "hello", ReplyOptions())
    line.reply(1, "Good morning.", seconds=0.5, done=False)
    await asyncio.sleep(1)
    pcm = bytes(RATE_HZ)
    line.log(fr.VoiceChunk(1, 0, 0, RATE_HZ // 2, RATE_HZ, pcm, ()))
    line.log(fr.VoiceChunk(1, 0, 0, RATE_HZ, RATE_HZ, pcm, ()))
    assert read("playback_underruns_total", protocol="stream") == before + 1


@on_a_line
async def test_sound_that_came_before_is_dropped_and_counted() -> None:
    before = read("dropped_total", reason="duplicate")
    line = Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning.", done=False)
    assert read("dropped_total", reason="duplicate") == before
    line.log(fr.VoiceChunk(1, 0, 0, 0, RATE_HZ, bytes(RATE_HZ), ()), fence=2)
    assert read("dropped_total", reason="duplicate") == before + 1


def told_of(name: str, **labels: str) -> tuple[float, float]:
    """How often, and with what sum."""
    return read(f"{name}_count", **labels), read(f"{name}_sum", **labels)


@on_a_line
async def test_a_client_that_takes_its_time_to_begin_waits_not_for_us() -> None:
    count, total = told_of("session_setup_seconds", protocol="stream")
    line = Line()
    await asyncio.sleep(0.1)
    session = Session(line.bus, line, Settings(), Abilities(), lambda message: True, line._close)
    await asyncio.sleep(5)
    session.start(SessionSettings())
    await asyncio.sleep(0.1)
    after, sum_s = told_of("session_setup_seconds", protocol="stream")
    assert after == count + 2
    assert sum_s - total < 0.2


@on_a_line
async def test_what_is_said_to_be_played_before_anything_was_sent_tells_nothing() -> None:
    count, _ = told_of("turn_heard_latency_seconds", protocol="stream")
    line = Line()
    line.speech(1)
    line.commit(1)
    line.final(1, "hello")
    line.log(fr.ReplyStarted(1, 0, 0), fr.ReplyDelta(1, 0, 0, "Good"))
    line.do(act.Played(0, 50))  # of the reply before it, as far as its client knows
    assert told_of("turn_heard_latency_seconds", protocol="stream")[0] == count
    line.reply(1, "Good morning.", seconds=5)
    await asyncio.sleep(0.3)
    line.do(act.Played(1, 2**31))  # no more than it was sent
    assert told_of("turn_heard_latency_seconds", protocol="stream")[0] == count + 1
    marks = line.session.conversation.state.turns[1].report.marks()
    assert marks["played"] > marks["first_audio"] - 5000


@on_a_line
async def test_a_reply_that_was_paused_before_the_first_report_tells_not_when_it_began() -> None:
    count, _ = told_of("turn_heard_latency_seconds", protocol="stream")
    line = Line()
    line.turn(1, "hello", "Good morning.", seconds=5)
    await asyncio.sleep(0.1)
    line.speech(2)
    await asyncio.sleep(2)
    line.pause(2, "")
    await asyncio.sleep(0.2)
    line.do(act.Played(1, 300))
    assert told_of("turn_heard_latency_seconds", protocol="stream")[0] == count


async def speech_into_a_reply(line: Line, chunks: int, every_s: float, since_s: float, stall_s: float = 0.0) -> float:
    """What is counted for speech that began so long ago by the samples, while so much audio came at this pace."""
    _, before_s = told_of("barge_in_seconds", protocol="stream")
    line.asked(1, "hello")
    line.reply(1, "Good morning to you.", seconds=20)
    for _ in range(chunks):
        line.do(act.Audio(SILENCE_20_MS))
        await asyncio.sleep(every_s)
    await asyncio.sleep(stall_s)
    onset = chunks * RATE_HZ // 50 - int(since_s * RATE_HZ)
    line.log(fr.SpeechStarted(line.id, 2, 0, onset, onset, "0-0", "en", True))
    return told_of("barge_in_seconds", protocol="stream")[1] - before_s


@on_a_line
async def test_a_microphone_that_stands_still_does_not_stop_the_clock() -> None:
    assert abs(await speech_into_a_reply(Line(), 100, 0.02, 0.1, stall_s=0.5) - 0.62) < 0.021


@on_a_line
async def test_a_recording_that_is_sent_at_once_is_heard_no_sooner_than_it_came() -> None:
    assert await speech_into_a_reply(Line(), 500, 0.0, 5.0, stall_s=0.1) < 0.15


@on_a_line
async def test_a_model_that_speaks_itself_leaves_nothing_to_the_synthesis() -> None:
    labels = {"segment": "first_audio", "stage": "tts", "engine": "tts"}
    count, _ = told_of("turn_segment_seconds", **labels)
    own, _ = told_of("turn_segment_seconds", **{**labels, "stage": "llm", "engine": "llm"})
    line = Line(route="omni")
    line.turn(1, "hello", "Good morning.", voiced=True)
    await asyncio.sleep(3)
    assert told_of("turn_segment_seconds", **labels)[0] == count
    assert told_of("turn_segment_seconds", **{**labels, "stage": "llm", "engine": "llm"})[0] == own + 1
    assert "sounded" in line.bus.turns[0].marks


@on_a_line
async def test_who_ends_the_turn_by_hand_waits_from_then_on() -> None:
    count, total = told_of("turn_latency_seconds", protocol="stream")
    line = Line(detect_turns=False)
    spoken = (0, RATE_HZ, 4 * RATE_HZ)  # and then three seconds of silence
    line.log(fr.TurnCommitted(1, 0, *spoken, line.bus.clock.now_ms(), ReplyOptions()))
    line.final(1, "hello")
    line.reply(1, "Good morning.")
    assert told_of("turn_latency_seconds", protocol="stream")[0] == count + 1
    assert told_of("turn_latency_seconds", protocol="stream")[1] - total < 0.1
