"""Sessions whose turns are answered as they sound: the transcript comes beside the reply, before it or after it."""

import asyncio
from typing import Any

import pytest

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.outcome import LINGERING
from services.edge.conversation.turns import TRANSCRIPT_S
from services.edge.protocols.fields import BadField
from services.edge.protocols.realtime.session import SessionObject
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions, SessionSettings
from tests.support.line import SECOND, Line, on_a_line

TEN = "one two three four five six seven eight nine ten"
WHOLE = ["1 began", "1: Hi there.", "1 audio 0+16000", "1 completed"]


def omni(**settings: Any) -> Line:
    return Line(route="omni", **settings)


def playing(**reply: Any) -> Line:
    """A line on which a reply of ten seconds, a word each, begins to play now."""
    line = omni()
    line.turn(1, "count", TEN, seconds=10, **reply)
    return line


@on_a_line
async def test_what_was_prepared_from_the_sound_is_released_at_the_commit_without_a_transcript() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, None, speculate=True)
    line.reply(1, "Hi there.")
    assert line.received() == []
    line.commit(1)
    assert line.received() == WHOLE
    assert line.jobs == [job for job in line.jobs if isinstance(job, fr.SessionStarted)]  # nothing was asked again


@on_a_line
async def test_the_words_go_before_the_reply_on_record_whenever_they_come() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, None, speculate=True)
    line.reply(1, "Hi there.")
    line.commit(1)
    assert line.history() == [("assistant", "Hi there.", False)]
    line.final(1, "hello")
    assert line.history() == [("user", "hello", False), ("assistant", "Hi there.", False)]
    assert [(event.text, event.final) for event in line.of(ev.Transcribed)] == [("hello", True)]
    assert line.received() == WHOLE
    line.final(1, "hello again")
    assert len(line.of(ev.Transcribed)) == 1


@on_a_line
async def test_the_words_of_an_earlier_turn_go_before_a_later_one() -> None:
    line = omni()
    line.speech(1)
    line.commit(1)
    line.do(act.CancelReply())  # nothing of its reply is ever heard
    line.speech(2)
    line.pause(2, "second")
    line.reply(2, "Two.")
    line.commit(2)
    line.final(1, "first")
    assert line.history() == [("user", "first", False), ("user", "second", False), ("assistant", "Two.", False)]


@on_a_line
async def test_a_cough_that_is_known_as_one_at_the_commit_is_not_answered() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, "")
    line.reply(1, "Hi there.")
    line.commit(1)
    assert line.received() == ["1 empty"]
    assert line.history() == []


@on_a_line
async def test_one_that_is_known_later_is() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, None, speculate=True)
    line.reply(1, "Hi there.", done=False)
    line.commit(1)
    line.final(1, "")
    line.reply(1, "Hi there.")
    assert line.received() == WHOLE
    assert line.session.conversation.state.is_silent is False
    await asyncio.sleep(2)
    assert line.session.conversation.state.is_silent


@on_a_line
async def test_a_turn_that_awaits_nothing_but_its_transcript_is_over() -> None:
    line = omni(idle_ms=3000, idle_prompt="Hello?")
    line.speech(1)
    line.pause(1, None, speculate=True)
    line.reply(1, "Hi there.")
    line.commit(1)
    await asyncio.sleep(10)
    assert await line.published(fr.ReplyRequested)


@on_a_line
async def test_the_next_revision_is_answered_and_not_the_one_before() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    line.resume(1, 1)
    line.pause(1, None, 1, speculate=True)
    line.reply(1, "Hi there.", 0)
    line.reply(1, "It is dry.", 1, voice=7)
    assert line.received() == []
    line.commit(1, 1)
    assert {event.pcm[:2] for event in line.of(ev.ReplyAudio)} == {b"\7\0"}
    assert line.received()[-1] == "1 completed"


@on_a_line
async def test_a_reply_that_was_told_something_else_is_made_anew_from_the_sound() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    line.do(act.SetHistory("note", "system", "It rains."))
    line.do(act.Configure(SessionSettings(route="omni", instructions="Be brief.")))
    options = ReplyOptions(instructions="Be kind.")
    line.commit(1, options=options)
    assert line.received() == []
    (again,) = [job for job in line.jobs if isinstance(job, fr.TurnAudioReady)]
    assert (again.turn, again.revision, again.options) == (1, 1, options)
    assert (again.start, again.end) == (SECOND, SECOND + SECOND // 2)
    line.reply(1, "Hi there.", 1)
    assert line.received() == WHOLE


@on_a_line
async def test_a_sound_into_a_reply_without_words_is_forgiven() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.pause(2, None, speculate=True)
    line.reply(2, "Bless you.")
    line.final(2, "")
    assert line.received()[-1] == "1 resume 3000"
    line.commit(2)
    assert [event.reason for event in line.of(ev.TurnDropped)] == ["noise"]
    await asyncio.sleep(20)
    assert line.history() == [("user", "count", False), ("assistant", TEN, False)]


@on_a_line
async def test_words_into_a_reply_end_it() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "stop"))
    assert line.received()[-1] == "1 interrupt 3000"
    line.pause(2, "stop it")
    line.reply(2, "All right.")
    line.commit(2)
    assert line.received()[-1] == "2 completed"
    assert line.history()[1:] == [
        ("assistant", "one two three", True), ("user", "stop it", False), ("assistant", "All right.", False),
    ]  # fmt: skip


@on_a_line
async def test_speech_into_a_reply_is_meant_where_nobody_writes_it_down() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.pause(2, None, speculate=True)
    line.commit(2)
    assert line.received()[-1] == "1 pause 3000"
    await asyncio.sleep(TRANSCRIPT_S + 0.1)
    assert "1 interrupt 3000" in line.received()
    # What was prepared while the old reply was held knew the same: what was heard of it is on record from the pause on.
    line.reply(2, "All right.")
    assert line.received()[-1] == "2 completed"
    line.final(2, "stop it")
    assert line.history()[-2:] == [("user", "stop it", False), ("assistant", "All right.", False)]


@on_a_line
async def test_a_transcript_that_was_given_up_costs_no_reply() -> None:
    line = omni()
    line.speech(1)
    line.log(fr.StageFailed("asr", 1, 0, "boom"))
    line.pause(1, None, speculate=True)
    line.reply(1, "Hi there.")
    line.commit(1)
    assert line.received() == WHOLE
    assert [event.code for event in line.of(ev.Failed)] == ["stage_failed"]


@on_a_line
async def test_nor_one_that_is_given_up_after_the_commit() -> None:
    line = playing()
    await asyncio.sleep(1)
    line.speech(2)
    line.pause(2, None, speculate=True)
    line.commit(2)
    line.log(fr.StageFailed("asr", 2, 0, "boom"))
    line.reply(2, "All right.")
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_of_a_reply_that_the_model_speaks_itself_as_much_was_heard_as_was_played() -> None:
    line = playing(voiced=True)
    await asyncio.sleep(3)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "stop"))
    (interrupt,) = line.of(ev.Interrupt)
    assert interrupt.heard == TEN[: int(len(TEN) * 0.3)].rsplit(" ", 1)[0]
    assert line.history()[1] == ("assistant", interrupt.heard, True)


@on_a_line
async def test_all_of_it_was_heard_when_it_was_played() -> None:
    line = playing(voiced=True)
    await asyncio.sleep(12)
    assert line.history() == [("user", "count", False), ("assistant", TEN, False)]


@on_a_line
async def test_what_is_written_and_not_spoken_yet_was_not_heard() -> None:
    line = omni()
    line.speech(1)
    line.commit(1)
    line.log(fr.ReplyStarted(1, 0, 0, True), fr.ReplyDelta(1, 0, 0, "Hi there."))
    assert line.received() == ["1 began", "1: Hi there."]
    line.do(act.CancelReply())
    assert line.history() == []


@on_a_line
async def test_a_reply_that_is_asked_for_does_not_wait_for_the_transcript() -> None:
    line = omni(detect_turns=False)
    line.speech(1)
    line.do(act.Commit(ReplyOptions(wants_reply=False)), act.RequestReply(ReplyOptions()))
    assert await line.published(fr.ReplyRequested) == []
    line.commit(1, options=ReplyOptions(wants_reply=False))
    assert len(await line.published(fr.ReplyRequested)) == 1
    line.log(fr.TurnCommitted(2, 0, 0, 0, 0, 1_000_000, ReplyOptions()))
    line.log(fr.TurnAudioReady(line.id, 2, 0, "0-0", SECOND, 2 * SECOND, ReplyOptions(), 1))
    line.reply(2, "Hi there.")
    assert line.received()[-1] == "2 completed"
    line.final(1, "hello")
    assert line.history() == [("user", "hello", False), ("assistant", "Hi there.", False)]


@on_a_line
async def test_typed_turns_are_answered_as_ever() -> None:
    line = omni()
    line.asked(1, "hello")
    line.reply(1, "Hi there.")
    assert line.received() == WHOLE
    assert line.history() == [("user", "hello", False), ("assistant", "Hi there.", False)]


@on_a_line
async def test_a_model_that_cannot_hear_is_no_way_to_go() -> None:
    line = omni(hears=False)
    assert line.closed == (1008, "route omni: the chat model cannot hear")
    assert [event.code for event in line.of(ev.Failed)] == ["cannot_hear"]


@on_a_line
async def test_a_session_cannot_change_to_it_either_but_other_settings_hold() -> None:
    line = Line(hears=False)
    line.do(act.Configure(SessionSettings(route="omni", instructions="Be brief.")))
    assert line.session.settings == SessionSettings(instructions="Be brief.")
    assert "cannot hear" in line.of(ev.Failed)[0].message
    assert line.closed is None


def test_a_realtime_client_chooses_the_route_and_is_told_of_it_only_then() -> None:
    session = SessionObject(SessionSettings(), "m", hears=True)
    assert "route" not in session.config
    assert session.settings().route == "cascade"
    session.update({"route": "omni"})
    assert (session.config["route"], session.settings().route) == ("omni", "omni")
    assert SessionObject(SessionSettings(route="omni"), "m", hears=True).settings().route == "omni"


@pytest.mark.parametrize(("value", "hears"), [("omni", False), ("", True), (1, True), (["omni"], True), ("OMNI", True)])
def test_what_is_no_route_is_refused(value: Any, hears: bool) -> None:
    with pytest.raises(BadField, match=r"session\.route.*cascade"):
        SessionObject(SessionSettings(), "m", hears=hears).update({"route": value})


@on_a_line
async def test_the_words_are_kept_where_the_reply_was_given_up() -> None:
    line = omni()
    line.speech(1)
    line.pause(1, None, speculate=True)
    line.commit(1)
    line.log(fr.StageFailed("llm", 1, 0, "boom"))  # of what was prepared
    (again,) = [job for job in line.jobs if isinstance(job, fr.TurnAudioReady)]
    line.log(fr.StageFailed("llm", 1, again.revision, "boom"))
    assert line.received() == ["1 began", "1 failed"]
    line.final(1, "hello")
    assert [(event.text, event.final) for event in line.of(ev.Transcribed)] == [("hello", True)]
    assert line.history() == [("user", "hello", False)]


@on_a_line
async def test_no_more_than_a_few_turns_wait_for_words_that_never_come() -> None:
    line = omni()
    for turn in range(1, 30):
        line.speech(turn)
        line.commit(turn)
        line.do(act.CancelReply())
    assert len(line.session.conversation.state.turns) == LINGERING
    assert not line.session.conversation.state.has_open_turn
