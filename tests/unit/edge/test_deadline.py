"""A turn on which no stage makes progress fails after the deadline, with an error for the client, in virtual time."""

import asyncio
from typing import Any

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.idle import GOODBYE_S
from shared.protocol import frames as fr
from shared.protocol.session import RATE_HZ, ReplyOptions
from shared.settings import Settings
from tests.support.line import Line, on_a_line

DEADLINE_S = Settings().turn_deadline_s
PAST_S = DEADLINE_S + 0.1
REPLY_DEADLINE_S = Settings().reply_deadline_s
SENTENCE = ("", 1.0, "en")


def errors(line: Line) -> list[tuple[str, int]]:
    return [(event.code, event.turn) for event in line.of(ev.Failed)]


def ended(line: Line) -> list[tuple[int, str]]:
    return [(event.turn, event.status) for event in line.of(ev.ReplyEnded)]


async def stuck(line: Line, stage: str) -> None:
    """A turn whose next step is due from this stage, which does nothing for longer than the deadline."""
    line.speech(1)
    line.commit(1)
    if stage != "asr":
        line.final(1, "hello")
    if stage == "tts":
        line.log(fr.ReplyStarted(1, 0, 0), fr.ReplyDelta(1, 0, 0, "Hi."))
        line.log(fr.ReplySentence(line.id, 1, 0, 0, "Hi.", *SENTENCE), fr.ReplyDone(1, 0, "Hi.", 1))
    await asyncio.sleep(PAST_S)


@on_a_line
async def test_a_turn_that_nobody_answers_fails() -> None:
    for stage in ("asr", "llm", "tts"):
        await check_that_it_fails(stage)


async def check_that_it_fails(stage: str) -> None:
    line = Line()
    await stuck(line, stage)
    code, limit_s = ("reply_deadline", REPLY_DEADLINE_S) if stage == "tts" else ("turn_deadline", DEADLINE_S)
    assert errors(line) == [(code, 1)]
    assert line.of(ev.Failed)[0].message == f"the {stage} stage has not answered for {limit_s:g} s"
    assert ended(line) == [(1, "failed")]
    assert [record.outcome for record in line.bus.turns] == ["failed"]
    line.turn(2, "again", "yes")  # and the session goes on
    await asyncio.sleep(2)
    assert ended(line)[1:] == [(2, "completed")]


@on_a_line
async def test_a_late_reply_is_not_heard() -> None:
    line = Line()
    await stuck(line, "llm")
    assert (1, 1, True) in line.stops  # nobody need work on it any more
    line.reply(1, "too late")
    await asyncio.sleep(2)
    assert not line.of(ev.ReplyAudio)
    assert ended(line) == [(1, "failed")]


@on_a_line
async def test_a_reply_that_stops_in_the_middle_fails_after_what_there_is() -> None:
    line = Line()
    line.turn(1, "hello", "one two", done=False)
    await asyncio.sleep(PAST_S + 1)
    assert ended(line) == [(1, "failed")]
    assert errors(line) == [("reply_deadline", 1)]
    assert sum(len(event.pcm) for event in line.of(ev.ReplyAudio)) == 2 * RATE_HZ


@on_a_line
async def test_progress_starts_the_deadline_again() -> None:
    line = Line()
    line.speech(1)
    line.commit(1)
    steps: list[Any] = [
        fr.TranscriptFinal(line.id, 1, 0, "hello", ReplyOptions()),
        fr.ReplyStarted(1, 0, 0),
        fr.ReplyDelta(1, 0, 0, "Hi."),
        fr.ReplySentence(line.id, 1, 0, 0, "Hi.", *SENTENCE),
        fr.VoiceChunk(1, 0, 0, 0, RATE_HZ, bytes(RATE_HZ), ()),
        fr.VoiceDone(1, 0, 0, RATE_HZ // 2),
        fr.ReplyDone(1, 0, "Hi.", 1),
    ]
    for step in steps:
        await asyncio.sleep(0.9 * REPLY_DEADLINE_S)
        line.log(step)
    await asyncio.sleep(PAST_S)
    assert errors(line) == []
    assert ended(line) == [(1, "completed")]


@on_a_line
async def test_a_long_reply_may_play_for_longer_than_the_deadline() -> None:
    line = Line()
    line.turn(1, "hello", "one two", seconds=3 * DEADLINE_S)
    await asyncio.sleep(4 * DEADLINE_S)
    assert errors(line) == []
    assert ended(line) == [(1, "completed")]


@on_a_line
async def test_a_voice_that_does_not_come_has_failed_while_the_model_still_writes() -> None:
    line = Line()
    line.asked(1, "hello")
    line.log(fr.ReplyStarted(1, 0, 0), fr.ReplySentence(line.id, 1, 0, 0, "Hi.", *SENTENCE))
    for _ in range(int(REPLY_DEADLINE_S)):
        await asyncio.sleep(0.9)
        line.log(fr.ReplyDelta(1, 0, 0, "Hi."))
        assert errors(line) == []
    await asyncio.sleep(0.1 * REPLY_DEADLINE_S + 0.1)
    assert errors(line) == [("reply_deadline", 1)]


@on_a_line
async def test_a_voice_may_rest_while_the_person_hears_what_it_has_made() -> None:
    line = Line()
    line.asked(1, "hello")
    line.log(fr.ReplyStarted(1, 0, 0), *(fr.ReplySentence(line.id, 1, 0, at, "Hi.", *SENTENCE) for at in (0, 1)))
    line.log(fr.ReplyDone(1, 0, "Hi. Hi.", 2))
    line.log(fr.VoiceChunk(1, 0, 0, 0, RATE_HZ, bytes(round(6 * REPLY_DEADLINE_S * RATE_HZ)), ()))  # 3 times as long
    await asyncio.sleep(3.9 * REPLY_DEADLINE_S)
    assert errors(line) == []
    await asyncio.sleep(0.2 * REPLY_DEADLINE_S)
    assert errors(line) == [("reply_deadline", 1)]


@on_a_line
async def test_a_voice_that_makes_no_sound_has_failed() -> None:
    for text, failure in (("Hi.", [("no_voice", 1)]), ("...", [])):
        line = Line()
        line.asked(1, "hello")
        line.log(fr.ReplyStarted(1, 0, 0), fr.ReplySentence(line.id, 1, 0, 0, text, *SENTENCE))
        line.log(fr.ReplyDone(1, 0, text, 1), fr.VoiceDone(1, 0, 0, 0))
        await asyncio.sleep(1)
        assert errors(line) == failure
        assert ended(line) == [(1, "failed" if failure else "completed")]


@on_a_line
async def test_what_was_typed_and_never_becomes_a_turn_is_told() -> None:
    line = Line()
    line.do(act.Say("hello"), act.RequestReply())
    await asyncio.sleep(PAST_S)
    assert errors(line) == [("turn_deadline", 0)]


@on_a_line
async def test_words_of_a_turn_without_a_reply_are_given_up_and_a_request_goes_on() -> None:
    line = Line()
    line.do(act.Commit(ReplyOptions(wants_reply=False)), act.RequestReply())
    line.speech(1)
    line.commit(1, options=ReplyOptions(wants_reply=False))
    assert not await line.published(fr.ReplyRequested)
    await asyncio.sleep(PAST_S)
    assert errors(line) == [("turn_deadline", 1)]
    assert len(await line.published(fr.ReplyRequested)) == 1


@on_a_line
async def test_a_phone_call_that_cannot_be_told_ends_with_the_goodbye() -> None:
    line = Line(shows_failures=False, goodbye="Goodbye.", speak_failures="never")
    await stuck(line, "llm")
    assert [frame.options.say for frame in await line.published(fr.ReplyRequested)] == ["Goodbye."]
    await asyncio.sleep(GOODBYE_S + 0.1)
    assert line.closed == (1011, "a turn has failed")


@on_a_line
async def test_a_phone_call_goes_on_where_some_of_the_reply_was_heard() -> None:
    line = Line(shows_failures=False, speak_failures="never")
    line.turn(1, "hello", "one two", done=False)
    await asyncio.sleep(PAST_S + 1)
    assert ended(line) == [(1, "failed")]
    assert line.closed is None


@on_a_line
async def test_a_session_that_ends_says_no_goodbye() -> None:
    line = Line(shows_failures=False, goodbye="Goodbye.")
    line.speech(1)
    line.commit(1)
    line.session.end("failed")
    assert not await line.published(fr.ReplyRequested)
