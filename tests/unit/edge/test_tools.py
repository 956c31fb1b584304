"""Tools: a call leaves the edge with the end of a reply that counts, once, or never; its answer finds its place."""

import asyncio
from typing import Any

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.history import LIMIT_CHARS, Conversation
from services.edge.conversation.playout import Playout
from services.edge.conversation.record import Record
from services.edge.conversation.reply import Reply
from shared.protocol import frames as fr
from shared.protocol.prompt import UNANSWERED, prompt
from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool, ToolCall
from tests.support.line import SECOND, Line, on_a_line

CALL = ToolCall("call_1", "weather", '{"city":"Bonn"}')
TOOLS = (Tool("weather", "", "{}"),)


def reply(line: Line, turn: int, text: str, *calls: ToolCall, revision: int = 0, **how: Any) -> None:
    """The workers make a reply that asks for tools."""
    how = {"seconds": 1.0, **how}
    line.reply(turn, text, revision, done=False, **how)
    at = (turn, revision)
    line.log(
        *(fr.ToolCalled(*at, call) for call in calls),
        fr.ReplyDone(*at, text, 1),
        fr.VoiceDone(*at, 0, int(SECOND * how["seconds"])),
    )


def asks(line: Line, turn: int = 1, *calls: ToolCall) -> None:
    """A turn whose reply asks for a tool."""
    line.speech(turn)
    line.pause(turn, "is it raining")
    reply(line, turn, "Let me see.", *(calls or (CALL,)))
    line.commit(turn)


def answer(line: Line, text: str = "rain", call_id: str = "call_1", key: str = "r") -> None:
    """The client answers a call."""
    line.do(act.SetHistory(key, "tool", text, answers=call_id))


def released(line: Line) -> list[ToolCall]:
    return [call for event in line.of(ev.ReplyEnded) for call in event.calls]


def received(line: Line, turn: int) -> list[tuple[str, str]]:
    """The prompt of this turn."""
    history = line.bus._history.get(line.id, ())
    return [(m.role, m.text) for m in prompt(line.session.settings, ReplyOptions(), history, turn, "")]


@on_a_line
async def test_a_call_waits_for_the_commit_and_for_all_that_is_said_before_it() -> None:
    line = Line(tools=TOOLS)
    line.speech(1)
    line.pause(1, "is it raining")
    reply(line, 1, "Let me see.", CALL)
    assert released(line) == []
    assert line.history() == []
    line.commit(1)
    assert line.received() == ["1 began", "1: Let me see.", "1 audio 0+16000", "1 completed"]
    assert released(line) == [CALL]
    user, text, call = line.bus._history[line.id]
    assert (user.role, text.text, call) == ("user", "Let me see.", Message("assistant", "", 1, calls=(CALL,)))


@on_a_line
async def test_a_turn_that_is_answered_twice_calls_once() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "is it raining")
    line.final(1, "is it raining")
    reply(line, 1, "Let me see.", CALL)
    reply(line, 1, "Let me see.", ToolCall("call_2", "weather", "{}"))
    line.commit(1)
    reply(line, 1, "Let me see.", CALL)
    assert released(line) == [CALL]


@on_a_line
async def test_a_call_waits_until_all_of_a_long_reply_was_sent() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "is it raining")
    line.reply(1, "Let me see.", seconds=40, done=False)
    line.log(fr.VoiceChunk(1, 0, 0, 40 * SECOND, SECOND, bytes(2 * SECOND), ()))  # is sent 30 s ahead
    line.log(fr.VoiceDone(1, 0, 0, 41 * SECOND), fr.ToolCalled(1, 0, CALL), fr.ReplyDone(1, 0, "Let me see.", 1))
    line.commit(1)
    await asyncio.sleep(9)
    assert released(line) == []
    await asyncio.sleep(2)
    assert released(line) == [CALL]


@on_a_line
async def test_the_call_of_a_superseded_revision_is_never_made() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "is it")
    reply(line, 1, "Let me see.", CALL)
    line.resume(1, 1)
    reply(line, 1, "Let me see.", CALL)
    line.pause(1, "is it raining in Rome", 1)
    rome = ToolCall("call_2", "weather", '{"city":"Rome"}')
    reply(line, 1, "Let me see.", rome, revision=1)
    line.commit(1, 1)
    line.log(fr.ToolCalled(1, 0, CALL), fr.ReplyDone(1, 0, "Let me see.", 1))
    assert released(line) == [rome]


@on_a_line
async def test_a_reply_that_is_made_anew_makes_only_its_own_calls() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "is it raining")
    reply(line, 1, "Let me see.", CALL)
    line.do(act.Configure(SessionSettings(tools=TOOLS)))  # the prompt had no tools
    line.commit(1)
    assert released(line) == []
    line.reply(1, "No idea.", 1)
    assert line.received()[-1] == "1 completed"
    assert released(line) == []


@on_a_line
async def test_a_reply_that_is_cut_off_before_its_end_calls_nothing() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "is it raining")
    line.reply(1, "Let me see.", done=False)
    line.log(fr.ToolCalled(1, 0, CALL))
    line.commit(1)
    await asyncio.sleep(0.3)
    line.speech(2)
    line.pause(2, "never mind that")
    line.log(fr.ReplyDone(1, 0, "Let me see.", 1), fr.VoiceDone(1, 0, 0, 16_000))
    line.commit(2)
    assert "1 interrupted" in line.received()
    assert released(line) == []
    assert not any(message.calls for message in line.bus._history[line.id])


@on_a_line
async def test_a_reply_that_is_cancelled_or_fails_calls_nothing() -> None:
    line = Line()
    line.asked(1, "is it raining")
    line.log(fr.ReplyStarted(1, 0, 0), fr.ToolCalled(1, 0, CALL))
    line.do(act.CancelReply())
    line.log(fr.ReplyDone(1, 0, "", 0))
    line.asked(2, "is it raining")
    line.log(fr.ReplyStarted(2, 0, 0), fr.ToolCalled(2, 0, CALL), fr.StageFailed("llm", 2, 0, "no"))
    assert line.received()[-1] == "2 failed"
    assert released(line) == []


@on_a_line
async def test_a_call_waits_while_someone_speaks_into_the_reply() -> None:
    line = Line(can_pause=False)
    line.speech(1)
    line.pause(1, "is it raining")
    line.reply(1, "Let me see.", done=False)
    line.commit(1)
    await asyncio.sleep(0.3)
    line.speech(2)
    line.log(fr.ToolCalled(1, 0, CALL), fr.ReplyDone(1, 0, "Let me see.", 1), fr.VoiceDone(1, 0, 0, 16_000))
    assert released(line) == []
    line.pause(2, "")  # a cough
    line.commit(2)
    assert released(line) == [CALL]
    await asyncio.sleep(0.2)
    line.speech(3)  # another: what is left is sent once more, and ends once more
    line.pause(3, "")
    line.commit(3)
    await asyncio.sleep(2)
    assert line.received().count("1 completed") == 2
    assert released(line) == [CALL]
    answer(line)
    assert received(line, 9) == [("user", "is it raining"), ("assistant", "Let me see."), ("tool", "rain")]


@on_a_line
async def test_a_reply_without_a_word_asks_for_several_tools_each_under_an_id_of_its_own() -> None:
    line = Line()
    line.asked(1, "is it raining")
    line.log(fr.ReplyStarted(1, 0, 0), fr.ToolCalled(1, 0, CALL), fr.ToolCalled(1, 0, CALL), fr.ReplyDone(1, 0, "", 0))
    line.asked(2, "and now")
    line.log(fr.ReplyStarted(2, 0, 0), fr.ToolCalled(2, 0, CALL), fr.ToolCalled(2, 0, ToolCall("", "clock", "{}")))
    line.log(fr.ReplyDone(2, 0, "", 0))
    assert line.received() == ["1 began", "1 completed", "2 began", "2 completed"]
    assert [(call.id, call.name) for call in released(line)] == [
        ("call_1", "weather"),
        ("call_1_1_1", "weather"),
        ("call_1_2_0", "weather"),
        ("call_2_1", "clock"),
    ]


@on_a_line
async def test_the_reply_to_an_answer_goes_on_after_what_is_being_said() -> None:
    line = Line()
    asks(line)
    await asyncio.sleep(0.2)
    answer(line)
    line.do(act.RequestReply())
    line.asked(2)
    reply(line, 2, "It rains.")
    assert line.received()[-1] == "1 completed"
    await asyncio.sleep(1.5)
    assert line.received()[4:] == ["2 began", "2: It rains.", "2 audio 0+16000", "2 completed"]
    assert line.session.stats()["interrupted"] == 0
    assert received(line, 3) == [
        ("user", "is it raining"),
        ("assistant", "Let me see."),
        ("tool", "rain"),
        ("assistant", "It rains."),
    ]
    (requested,) = await line.published(fr.ReplyRequested)
    assert requested == fr.ReplyRequested(ReplyOptions())


@on_a_line
async def test_speech_ends_the_reply_to_an_answer_that_was_still_waiting() -> None:
    line = Line()
    asks(line)
    answer(line)
    line.asked(2)
    line.speech(3)
    line.pause(3, "never mind that")
    line.commit(3, options=ReplyOptions(wants_reply=False))
    assert line.received()[-1] == "2 interrupted"
    reply(line, 2, "It rains.", ToolCall("call_2", "weather", "{}"))
    await asyncio.sleep(3)
    assert line.received()[-1] == "2 interrupted"
    assert released(line) == [CALL]


@on_a_line
async def test_other_requests_still_end_what_is_being_said() -> None:
    line = Line()
    asks(line)
    await asyncio.sleep(0.2)
    answer(line)
    line.do(act.SetHistory("u", "user", "never mind"))
    line.asked(2)
    assert line.of(ev.Interrupt)


@on_a_line
async def test_an_answer_that_comes_while_the_person_speaks_is_known_to_the_next_reply() -> None:
    line = Line()
    asks(line)
    await asyncio.sleep(1.5)
    line.speech(2)
    line.pause(2, "and in Rome")
    line.reply(2, "I am still looking.")
    answer(line)
    line.commit(2)
    assert line.jobs[-1] == fr.TranscriptFinal(line.id, 2, 1, "and in Rome", ReplyOptions())
    line.reply(2, "It rains in Bonn.", 1)
    assert line.received()[-4:] == ["2 began", "2: It rains in Bonn.", "2 audio 0+16000", "2 completed"]


@on_a_line
async def test_an_answer_after_its_reply_was_cut_off_or_hung_up_stands_with_its_call() -> None:
    line = Line()
    asks(line)
    await asyncio.sleep(0.5)
    line.do(act.CancelReply())
    line.asked(2, "hello")
    line.reply(2, "Hi.")
    assert ("tool", UNANSWERED) in received(line, 3)
    answer(line)
    answer(line, "snow", key="again")
    roles = [role for role, _ in received(line, 3)]
    assert roles == ["user", "assistant", "tool", "user", "assistant"]
    assert received(line, 3)[2] == ("tool", "snow")
    line.session.end("left")
    answer(line, key="late")  # nobody minds


@on_a_line
async def test_a_call_that_the_client_deletes_takes_its_answer_with_it() -> None:
    line = Line()
    asks(line)
    answer(line)
    line.do(act.SetHistory("call:call_1", "", ""))
    line.do(act.Truncate(1, 400))
    assert [role for role, _ in received(line, 2)] == ["user", "assistant"]


def test_a_reply_that_is_put_on_record_again_stands_before_its_calls() -> None:
    record = Record()
    reply = Reply(1, 0, Playout(SECOND, 30.0, keeps=False), text="Let me see.", text_done=True, called=True)
    record.heard(reply, 0)
    record.called(1, [CALL])
    record.forget(reply)
    assert [message.text for message in record.messages()] == ["", ""]
    saved = record.heard(reply, 0)
    expected = [("Let me see.", ()), ("", (CALL,))]
    assert [(message.text, message.calls) for message in record.messages()] == expected
    assert [(message.text, message.calls) for message in saved.messages] == expected


def test_the_history_forgets_the_oldest_of_what_is_too_long_to_be_kept() -> None:
    conversation = Conversation()
    for number in range(6):
        conversation.put(f"r{number}", Message("tool", "x" * (LIMIT_CHARS // 4), 1, answers="a"))
    assert len(conversation.messages()) == 4
    conversation.put("huge", Message("tool", "x" * (LIMIT_CHARS + 1), 1, answers="a"))
    assert len(conversation.messages()) == 1
