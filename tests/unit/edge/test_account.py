"""What is told of a session's turns: the latency, the parts, the reaction to speech, and the record of each."""

import asyncio

from prometheus_client import REGISTRY

from services.edge import actions as act
from shared import frames as fr
from shared.session import RATE_HZ, ReplyOptions
from tests.unit.edge.line import Line, on_a_line

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
    marks = line.session._dialogue.replies.delivery._timings.marks(1)
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
