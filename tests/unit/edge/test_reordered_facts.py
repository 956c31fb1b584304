"""Facts of different stages that overtake each other, and what waits behind something that comes to nothing."""

import asyncio

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.reply_queue import WAITING_LIMIT
from shared.protocol import frames as fr
from shared.protocol.session import RATE_HZ, ReplyOptions
from tests.support.line import SECOND, Line, on_a_line
from tests.unit.edge.test_outcomes import Counted

TEN = "one two three four five six seven eight nine ten"
SAY = ReplyOptions(say="By the way.")


def playing(**settings: object) -> Line:
    """A reply of ten seconds begins to play now."""
    line = Line(**settings)  # type: ignore[arg-type]
    line.turn(1, "count", TEN, seconds=10)
    return line


@on_a_line
async def test_the_newer_of_two_turns_is_answered_where_its_transcript_comes_first() -> None:
    counted, line = Counted(), playing()
    await asyncio.sleep(3)
    for turn in (2, 3):
        line.speech(turn)
        line.pause(turn, None)
        line.commit(turn)
    line.final(3, "no, stop")
    line.reply(3, "Stopped.")
    line.final(2, "what about Rome")
    await asyncio.sleep(3)
    assert [shown for shown in line.received() if shown[0] in "23"] == [
        "3 began",
        "3: Stopped.",
        "3 audio 0+16000",
        "3 completed",
    ]
    assert [text for role, text, _ in line.history() if role == "user"] == ["count", "what about Rome", "no, stop"]
    assert counted() == {"interrupted": 2, "completed": 1}
    assert [(event.turn, event.wants_reply) for event in line.of(ev.TurnBegan)] == [(1, True), (3, True), (2, False)]


@on_a_line
async def test_what_waits_behind_a_turn_without_words_begins() -> None:
    line = Line()
    line.speech(1)
    line.commit(1)
    line.asked(2, options=SAY)
    line.reply(2, "By the way.", options=SAY)
    assert line.received() == []
    line.final(1, "")
    assert line.received()[:2] == ["1 empty", "2 began"]


@on_a_line
async def test_any_number_of_replies_waits_for_its_turn() -> None:
    line = playing()
    for turn in range(2, 9):
        line.asked(turn, options=SAY)
        line.reply(turn, "By the way.", options=SAY)
    await asyncio.sleep(30)
    assert [shown for shown in line.received() if "completed" in shown] == [f"{turn} completed" for turn in range(1, 9)]


@on_a_line
async def test_a_client_that_asks_for_too_many_replies_loses_the_oldest_of_them() -> None:
    counted, line = Counted(), playing()
    for turn in range(2, WAITING_LIMIT + 5):
        line.asked(turn, options=SAY)
    assert [(event.turn, event.status) for event in line.of(ev.ReplyEnded)[1:]] == [
        (2, "interrupted"), (3, "interrupted"), (4, "interrupted"),
    ]  # fmt: skip
    line.session.end("left")
    assert counted() == {"interrupted": 3, "cancelled": WAITING_LIMIT + 1}


@on_a_line
async def test_words_into_a_reply_that_nobody_is_to_answer_interrupt_it_whenever_they_come() -> None:
    line = playing(create_reply=False)
    await asyncio.sleep(3)
    line.speech(2)
    line.pause(2, None)
    line.commit(2, options=ReplyOptions(wants_reply=False))
    assert line.received()[-1] == "1 pause 3000"
    line.final(2, "stop")
    assert line.received()[-1] == "1 interrupt 3000"


@on_a_line
async def test_a_reply_that_a_stage_gives_up_ends_after_what_there_is_of_it() -> None:
    line = Line()
    line.speech(1)
    line.commit(1)
    line.final(1, "count")
    line.speech(2)  # nothing begins meanwhile
    line.reply(1, TEN, seconds=2, done=False)
    line.log(fr.StageFailed("tts", 1, 0, "gone"))
    line.pause(2, "")
    line.log(fr.TurnDiscarded(2, 0, "noise"))
    assert line.received() == ["1 began", f"1: {TEN}", "1 audio 0+32000", "1 failed"]


@on_a_line
async def test_a_late_failure_of_what_is_being_made_again_is_not_told() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    line.do(act.SetHistory("note", "system", "It rains."))
    line.commit(1)
    line.log(fr.StageFailed("tts", 1, 0, "gone"))
    line.reply(1, "Hi there.", 1)
    assert line.of(ev.Failed) == []
    assert line.received()[-1] == "1 completed"


@on_a_line
async def test_a_report_after_a_reset_puts_nothing_back_on_record() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.do(act.Say("stop"))
    line.do(act.Reset())
    line.do(act.Played(1, 2500))
    assert line.history() == []


@on_a_line
async def test_an_entry_of_several_frames_is_taken_in_order() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    prompt_hash = line.prompt_hash(1)
    pcm = bytes(2 * SECOND)
    line.log(
        fr.ReplyStarted(1, 0, prompt_hash),
        fr.ReplyDelta(1, 0, 0, "Hi "),
        fr.ReplyDelta(1, 0, 3, "there."),
        fr.ReplySentence(line.id, 1, 0, 0, "Hi there.", "", 1.0, "en"),
        fr.VoiceChunk(1, 0, 0, 0, RATE_HZ, pcm, ()),
        fr.VoiceDone(1, 0, 0, SECOND),
        fr.ReplyDone(1, 0, "Hi there.", 1),
        fr.TurnCommitted(1, 0, SECOND, 2 * SECOND, 2 * SECOND, 1_000_000, ReplyOptions()),
        fr.SpeechStarted(line.id, 2, 0, 3 * SECOND, 3 * SECOND, "0-0", "en", True),
    )
    assert line.received() == ["1 began", "1: Hi there.", "1 audio 0+16000", "1 completed", "1 pause 0"]
