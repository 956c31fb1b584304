"""Speech into a reply: silence at once, for good if words follow, and nothing lost if not."""

import asyncio

import pytest

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.backchannels import takes_the_floor
from services.edge.conversation.barge_in import MURMUR_S
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions
from tests.support.line import SECOND, Line, on_a_line

TEN = "one two three four five six seven eight nine ten"


def playing(**settings: object) -> Line:
    """A line on which a reply of ten seconds, a word each, begins to play now."""
    line = Line(**settings)  # type: ignore[arg-type]
    line.turn(1, "count", TEN, seconds=10)
    return line


def audio_since(line: Line, at: int) -> list[tuple[int, int]]:
    """Offset and length of the audio of events from the one at `at` on."""
    return [(event.offset, len(event.pcm) // 2) for event in line.events[at:] if isinstance(event, ev.ReplyAudio)]


@on_a_line
async def test_a_cough_pauses_the_reply_and_it_goes_on() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    assert line.received()[-1] == "1 pause 3000"
    await asyncio.sleep(1)
    line.pause(2, "")
    assert line.received()[-1] == "1 resume 3000"
    line.commit(2)
    assert [event.reason for event in line.of(ev.TurnDropped)] == ["noise"]
    await asyncio.sleep(20)
    assert line.received()[-1] == "1 resume 3000"
    assert line.history() == [("user", "count", False), ("assistant", TEN, False)]
    assert await line.published(fr.TurnInterrupted) == []
    (played,) = await line.published(fr.PlayedOut)
    assert isinstance(played, fr.PlayedOut)
    assert played.heard == played.total == 10 * SECOND


@on_a_line
async def test_a_client_that_cannot_pause_is_sent_the_rest_again() -> None:
    line = playing(can_pause=False)
    await asyncio.sleep(3)
    line.speech(2)
    await asyncio.sleep(1)
    before = len(line.events)
    line.pause(2, "")
    resume = line.of(ev.Resume)[-1]
    assert (resume.from_ms, resume.text) == (3000, "four five six seven eight nine ten")
    again = audio_since(line, before)
    assert again[0][0] == 3 * SECOND
    assert sum(length for _, length in again) == 7 * SECOND
    assert line.received()[-1] == "1 completed"  # a second time: it was begun a second time


@on_a_line
async def test_a_client_that_cannot_pause_says_itself_how_much_it_heard() -> None:
    line = playing(can_pause=False)
    await asyncio.sleep(3)
    line.speech(2)
    line.do(act.Truncate(1, 2500))
    before = len(line.events)
    line.pause(2, "")
    assert audio_since(line, before)[0][0] == 2 * SECOND + SECOND // 2


@on_a_line
async def test_a_word_makes_it_final() -> None:
    line = playing()
    await asyncio.sleep(3.2)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "stop"))
    assert line.received()[-2:] == ["1 pause 3200", "1 interrupt 3200"]
    assert line.of(ev.Interrupt)[-1].heard == "one two three"
    line.pause(2, "stop please")
    line.reply(2, "Stopped.")
    line.commit(2)
    assert line.received()[-1] == "2 completed"
    assert line.history() == [
        ("user", "count", False),
        ("assistant", "one two three", True),
        ("user", "stop please", False),
        ("assistant", "Stopped.", False),
    ]
    assert [job for job in line.jobs if isinstance(job, fr.TranscriptFinal)] == []  # prepared with the cut history


@on_a_line
async def test_what_was_prepared_while_the_reply_was_paused_counts_at_the_commit() -> None:
    """No partial came before the final transcript: the model has seen the reply as it was when it fell silent."""
    line = playing()
    await asyncio.sleep(3.2)
    line.speech(2)
    line.pause(2, "stop please")
    line.reply(2, "Stopped.")
    line.commit(2)
    assert [shown for shown in line.received() if shown[0] == "2"] == [
        "2 began",
        "2: Stopped.",
        "2 audio 0+16000",
        "2 completed",
    ]
    assert [job for job in line.jobs if isinstance(job, fr.TranscriptFinal)] == []


@on_a_line
async def test_listening_noises_do_not_end_a_reply_but_answer_one_that_is_over() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "uh-huh"))
    line.pause(2, "uh-huh okay")
    assert line.received()[-1] == "1 resume 3000"
    line.reply(2, "Yes?")
    line.commit(2)
    assert [event.reason for event in line.of(ev.TurnDropped)] == ["backchannel"]
    assert [shown for shown in line.received() if shown[0] == "2"] == []
    await asyncio.sleep(6.5)  # half a second is left
    line.speech(3)
    line.pause(3, "okay")
    line.reply(3, "Good.")
    line.commit(3)
    assert line.received()[-1] == "3 completed"


@on_a_line
async def test_speech_that_goes_on_after_a_pause_silences_it_again() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.pause(2, "")
    line.resume(2, 1)
    assert line.received()[-2:] == ["1 resume 3000", "1 pause 3000"]
    line.log(fr.TranscriptPartial(2, 1, "wait"))
    assert line.received()[-1] == "1 interrupt 3000"


@on_a_line
async def test_a_transcript_that_comes_after_the_commit_decides() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.pause(2, None)
    line.commit(2)
    assert line.received()[-1] == "1 pause 3000"
    assert line.of(ev.TurnBegan)[1:] == []
    line.final(2, "stop")
    assert line.received()[-1] == "1 interrupt 3000"
    line.reply(2, "Stopped.")
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_so_many_words_are_needed() -> None:
    line = playing(min_words=2)
    await asyncio.sleep(3)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "stop"))
    assert line.received()[-1] == "1 pause 3000"
    line.log(fr.TranscriptPartial(2, 0, "stop it"))
    assert line.received()[-1] == "1 interrupt 3000"


@on_a_line
async def test_speech_shorter_than_asked_for_does_not_silence() -> None:
    line = playing(interrupt_ms=400)  # a turn begins after 100
    await asyncio.sleep(3)
    line.speech(2)
    await asyncio.sleep(0.2)
    line.pause(2, "")
    await asyncio.sleep(1)
    line.commit(2)
    assert line.of(ev.Pause) == []
    line.speech(3)
    await asyncio.sleep(0.31)
    assert line.received()[-1].startswith("1 pause")


@on_a_line
async def test_its_own_echo_does_not_interrupt_a_reply() -> None:
    line = playing(echo_guard_ms=1000)
    await asyncio.sleep(0.5)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "one two"))
    line.pause(2, "one two")
    line.commit(2)
    assert [event.reason for event in line.of(ev.TurnDropped)] == ["echo"]
    assert line.of(ev.Pause, ev.Interrupt) == []
    await asyncio.sleep(0.4)
    line.speech(3)  # a person who goes on speaking is heard when the guard is over
    await asyncio.sleep(0.05)
    assert line.of(ev.Pause) == []
    await asyncio.sleep(0.06)
    assert len(line.of(ev.Pause)) == 1


@on_a_line
async def test_a_reply_that_must_be_heard_is_and_the_next_one_waits_for_it() -> None:
    line = Line()
    options = ReplyOptions(say="This call is recorded.", interruptible=False)
    line.asked(1, options=options)
    line.reply(1, "This call is recorded.", seconds=3, options=options)
    await asyncio.sleep(1)
    line.turn(2, "hello", "Hi.")
    assert line.of(ev.Pause, ev.Interrupt) == []
    assert [shown for shown in line.received() if shown[0] == "2"] == []
    await asyncio.sleep(3)
    assert line.received()[-1] == "2 completed"
    assert [text for _, text, _ in line.history()] == ["This call is recorded.", "hello", "Hi."]


@on_a_line
async def test_what_the_agent_is_asked_to_say_waits_for_what_it_says() -> None:
    line = playing()
    await asyncio.sleep(3)
    options = ReplyOptions(say="By the way.")
    line.asked(2, options=options)
    line.reply(2, "By the way.", options=options)
    assert line.received()[-1] == "1 completed"
    await asyncio.sleep(8)
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_speech_before_the_reply_has_begun_holds_it_back() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, None)
    line.commit(1)
    line.final(1, "count")
    line.speech(2)
    line.reply(1, TEN, seconds=10)
    assert line.received() == []
    line.pause(2, "")
    assert line.received()[0] == "1 began"


@on_a_line
async def test_a_turn_while_the_one_before_is_still_being_answered() -> None:
    line = Line()
    line.speech(1)
    line.pause(1, None)
    line.commit(1)
    line.final(1, "count")
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "to ten"))
    line.reply(1, TEN)
    line.pause(2, "to ten")
    line.reply(2, TEN, voice=2)
    line.commit(2)
    assert [shown for shown in line.received() if "began" in shown] == ["2 began"]
    assert [text for _, text, _ in line.history()] == ["count", "to ten", TEN]


@on_a_line
async def test_typing_ends_a_reply() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.do(act.Say("stop"))
    assert line.received()[-1] == "1 interrupt 3000"


@on_a_line
async def test_the_client_knows_best_where_it_fell_silent() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.do(act.Played(1, 1600))
    line.log(fr.TranscriptPartial(2, 0, "stop"))
    assert line.history()[1] == ("assistant", "one two", True)
    line.do(act.Played(1, 4600))
    assert line.history()[1] == ("assistant", "one two three four five", True)


@on_a_line
async def test_a_reply_is_truncated_long_after_its_end() -> None:
    line = playing()
    await asyncio.sleep(12)
    line.do(act.Truncate(1, 2000))
    assert line.history()[1] == ("assistant", "one two", True)
    line.do(act.Truncate(1, 0))
    assert line.history() == [("user", "count", False)]


@on_a_line
async def test_the_session_ends_in_the_middle_of_everything() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.session.end("left")
    await asyncio.sleep(60)
    assert line.received()[-1] == "1 interrupt 3000"


@pytest.mark.parametrize(
    ("text", "language", "words", "takes"),
    [
        ("", "en", 1, False),
        ("uh-huh", "en", 1, False),
        ("Yeah, okay.", "en-GB", 1, False),
        ("okay stop", "en", 1, True),
        ("no", "en", 1, True),
        ("stop", "en", 2, False),
        ("ja genau", "de", 1, False),
        ("nein", "de-AT", 1, True),
        ("हाँ ठीक है", "hi", 1, False),
        ("रुकिए", "hi", 1, True),
        ("うん", "ja", 1, False),
        ("...", "en", 1, False),
        ("mm-hmm", "tlh", 1, False),
    ],
)
def test_which_words_take_the_floor(text: str, language: str, words: int, takes: bool) -> None:
    assert takes_the_floor(text, language, words) is takes


@pytest.mark.parametrize(
    ("text", "language", "takes"),
    [
        ("the memo", "en", False),
        ("stop", "en", True),
        ("and stop that", "en", True),
        ("nein", "de", True),
        ("nein", "tlh", False),
        ("i see", "en", False),
    ],
)
def test_of_what_sounds_like_a_murmur_only_words_that_claim_the_floor_count(
    text: str, language: str, takes: bool
) -> None:
    assert takes_the_floor(text, language, 1, murmur=True) is takes


@on_a_line
async def test_a_murmur_with_wrong_words_does_not_end_the_reply() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "the"))
    await asyncio.sleep(0.5)
    line.log(fr.SpeechPaused(2, 0, 2 * SECOND + SECOND // 2, speculate=True))
    line.log(fr.TranscriptFinal(line.id, 2, 0, "the memo", ReplyOptions(), murmur=True))
    assert line.received()[-1] == "1 resume 3000"
    line.commit(2)
    assert [event.reason for event in line.of(ev.TurnDropped)] == ["backchannel"]


@on_a_line
async def test_other_partial_words_count_once_speech_has_lasted_longer_than_a_murmur() -> None:
    line = playing()
    await asyncio.sleep(3)
    line.speech(2)
    line.log(fr.TranscriptPartial(2, 0, "tell me"))
    assert line.received()[-1] == "1 pause 3000"
    await asyncio.sleep(MURMUR_S + 0.01)
    line.log(fr.TranscriptPartial(2, 0, "tell me more"))
    assert line.received()[-1] == "1 interrupt 3000"
