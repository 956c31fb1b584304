"""A reply that is prepared before the turn is over: it leaves the edge when the turn is, whole, once, or never."""

import asyncio

from services.edge.client import actions as act
from services.edge.client import events as ev
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions
from tests.support.line import Line, on_a_line


@on_a_line
async def test_nothing_leaves_before_the_commit_and_everything_with_it() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    assert line.received() == []
    assert line.history() == []
    assert line.session.stats()["turns"] == 0
    line.commit(1)
    assert line.received() == ["1 began", "1: Hi there.", "1 audio 0+16000", "1 completed"]
    assert line.history() == [("user", "hello", False), ("assistant", "Hi there.", False)]
    assert line.session.stats()["turns"] == 1
    (timing,) = line.of(ev.Timing)
    assert timing.marks["first_token"] <= timing.marks["endpoint"] == timing.marks["first_audio"]


@on_a_line
async def test_nothing_leaks_while_a_resume_is_pending() -> None:
    """Work on the first revision goes on arriving, before and after the person speaks on."""
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.", done=False)
    line.resume(1, 1)
    line.reply(1, "Hi there.", 0)
    line.pause(1, "hello, is it raining", 1)
    line.reply(1, "Hi there.", 0)
    line.reply(1, "It is dry.", 1, voice=7)
    assert line.received() == []
    line.commit(1, 1)
    line.reply(1, "Hi there.", 0)
    assert line.received() == ["1 began", "1: It is dry.", "1 audio 0+16000", "1 completed"]
    assert {event.pcm[:2] for event in line.of(ev.ReplyAudio)} == {b"\7\0"}
    assert line.history() == [("user", "hello, is it raining", False), ("assistant", "It is dry.", False)]
    await asyncio.sleep(0.01)
    assert (1, 1, True) in line.stops


@on_a_line
async def test_an_utterance_that_is_finalised_twice_is_answered_once() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.final(1, "hello you")
    line.reply(1, "Hi there.")
    line.commit(1)
    line.final(1, "hello")
    line.commit(1)
    assert line.received() == ["1 began", "1: Hi there.", "1 audio 0+16000", "1 completed"]
    assert [event.text for event in line.of(ev.Transcribed) if event.final] == ["hello"]
    line.turn(2, "and now", "Still here.")
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_a_superseded_reply_with_the_same_words_is_spoken_once() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    line.resume(1, 1)
    line.pause(1, "hello", 1)
    line.reply(1, "Hi there.", 1)
    line.commit(1, 1)
    assert line.received() == ["1 began", "1: Hi there.", "1 audio 0+16000", "1 completed"]


@on_a_line
async def test_the_model_is_asked_once_where_nothing_has_changed() -> None:
    line = Line()
    for turn in (1, 2, 3):
        line.turn(turn, "hello", "Hi there.")
        await asyncio.sleep(3)
    assert line.jobs[1:] == []  # the session itself is the first


@on_a_line
async def test_a_reply_prepared_while_a_tool_ran_is_made_anew_with_its_result() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "is it raining")
    line.reply(1, "I do not know.")
    line.do(act.SetHistory("tool", "system", "Result of weather: rain"))
    line.commit(1)
    assert line.received() == []
    again = line.jobs[-1]
    assert again == fr.TranscriptFinal(line.id, 1, 1, "is it raining", ReplyOptions())
    line.log(again)  # type: ignore[arg-type]  # the edge reads what it wrote
    line.reply(1, "I do not know.")
    line.reply(1, "It rains.", 1)
    assert line.received() == ["1 began", "1: It rains.", "1 audio 0+16000", "1 completed"]
    assert [text for role, text, _ in line.history() if role == "user"] == ["is it raining"]


@on_a_line
async def test_other_instructions_at_the_commit_make_the_reply_anew_and_only_once() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    options = ReplyOptions(instructions="Be rude.")
    line.commit(1, options=options)
    assert line.received() == []
    line.do(act.SetHistory("note", "system", "Whatever."))  # changed once more: the second answer counts
    line.reply(1, "Go away.", 1, prompt_hash=123)
    assert line.received()[:2] == ["1 began", "1: Go away."]
    assert [job.options for job in line.jobs if isinstance(job, fr.TranscriptFinal)] == [options]


@on_a_line
async def test_a_leftover_end_of_an_old_reply_does_not_shift_the_next_one() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.", done=False)
    line.resume(1, 1)
    line.log(fr.VoiceDone(1, 0, 0, 16_000), fr.ReplyDone(1, 0, "Hi there.", 1))
    line.pause(1, "hello you", 1)
    line.reply(1, "Good day.", 1, done=False)
    line.commit(1, 1)
    line.log(fr.VoiceDone(1, 0, 0, 16_000), fr.ReplyDone(1, 0, "Hi there.", 1))
    assert line.received() == ["1 began", "1: Good day.", "1 audio 0+16000"]
    line.log(fr.VoiceDone(1, 1, 0, 16_000), fr.ReplyDone(1, 1, "Good day.", 1))
    assert line.received()[-1] == "1 completed"
    await asyncio.sleep(2)
    line.turn(2, "and", "Yes.")
    line.log(fr.ReplyDone(1, 1, "Good day.", 1))
    await asyncio.sleep(2)
    line.turn(3, "so", "No.")
    assert [shown for shown in line.received() if shown.startswith("3")] == [
        "3 began",
        "3: No.",
        "3 audio 0+16000",
        "3 completed",
    ]


@on_a_line
async def test_a_stage_that_gives_up_on_a_guess_is_asked_again_when_it_counts() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.log(fr.StageFailed("llm", 1, 0, "no"))
    assert line.of(ev.Failed) == []
    line.commit(1)
    line.reply(1, "Hi there.", 1)
    assert line.received() == ["1 began", "1: Hi there.", "1 audio 0+16000", "1 completed"]


@on_a_line
async def test_a_stage_that_gives_up_for_good_is_told_once() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, None)
    line.commit(1)
    line.final(1, "hello")
    line.log(fr.StageFailed("llm", 1, 0, "no"))
    assert line.received() == ["1 began", "1 failed"]
    assert [event.turn for event in line.of(ev.Failed)] == [1]
    line.turn(2, "hello", "Hi there.")
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_a_turn_without_words_is_told_and_not_answered() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "")
    line.commit(1)
    assert line.received() == ["1 empty"]
    assert line.history() == []
    line.turn(2, "hello", "Hi there.")
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_typing_while_speaking_drops_what_was_prepared() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, "hello")
    line.reply(1, "Hi there.")
    line.do(act.Say("stop that"))
    line.commit(1, options=ReplyOptions(wants_reply=False))  # what was spoken is a turn, and nobody answers it
    line.asked(2, "stop that")
    line.reply(2, "Stopped.")
    assert [shown for shown in line.received() if "began" in shown] == ["2 began"]
    assert [text for _, text, _ in line.history()] == ["hello", "stop that", "Stopped."]
