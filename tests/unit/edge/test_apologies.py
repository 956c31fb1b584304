"""A turn that fails is heard: the agent says so on the phone, and wherever a client asks for it."""

import asyncio

import numpy as np

from services.edge.client import events as ev
from services.edge.conversation.apologies import APOLOGIES, FAREWELLS, apology, farewell
from shared.audio.tone import TONE_HZ, falling_tone
from shared.protocol import frames as fr
from shared.protocol.session import Phrase, ReplyOptions, SessionSettings, Word
from tests.support.line import APOLOGY, SECOND, Line, on_a_line

SORRY = APOLOGIES["en"]


def failed(line: Line, turn: int, stage: str = "llm") -> None:
    """A turn that was typed, and that this stage gives up."""
    line.asked(turn, "hello")
    line.log(fr.StageFailed(stage, turn, 0, "gone"))


def heard(line: Line, value: int = APOLOGY) -> float:
    """How many seconds of these samples the client was sent."""
    pcm = b"".join(event.pcm for event in line.of(ev.ReplyAudio))
    return float((np.frombuffer(pcm, "<i2") == value).sum() / SECOND)


def ended(line: Line) -> list[tuple[int, str]]:
    return [(event.turn, event.status) for event in line.of(ev.ReplyEnded)]


@on_a_line
async def test_a_caller_hears_that_a_turn_has_failed_and_the_call_goes_on() -> None:
    line = Line(shows_failures=False, apology_s=2)
    failed(line, 1)
    await asyncio.sleep(3)
    assert line.received()[:2] == ["1 began", f"1: {SORRY}"]
    assert heard(line) == 2
    assert ended(line) == [(1, "failed")]
    assert [record.outcome for record in line.bus.turns] == ["failed"]
    line.turn(2, "again", "yes")
    await asyncio.sleep(2)
    assert ended(line)[1:] == [(2, "completed")]
    assert line.history() == [
        ("user", "hello", False), ("assistant", SORRY, True), ("user", "again", False), ("assistant", "yes", False),
    ]  # fmt: skip
    assert line.closed is None


@on_a_line
async def test_whichever_stage_fails() -> None:
    for stage in ("asr", "llm", "tts"):
        await check_that_it_is_heard(stage)


async def check_that_it_is_heard(stage: str) -> None:
    line = Line(shows_failures=False, apology_s=2)
    line.speech(1)
    line.commit(1)
    if stage != "asr":
        line.final(1, "hello")
    if stage == "tts":
        line.log(fr.ReplyStarted(1, 0, 0), fr.ReplySentence(line.id, 1, 0, 0, "Hi.", "", 1.0, "en"))
    line.log(fr.StageFailed(stage, 1, 0, "gone"))
    await asyncio.sleep(3)
    assert heard(line) == 2
    assert ended(line) == [(1, "failed")]


@on_a_line
async def test_without_a_recording_a_tone_is_heard() -> None:
    line = Line(shows_failures=False)
    failed(line, 1)
    await asyncio.sleep(3)
    pcm = b"".join(event.pcm for event in line.of(ev.ReplyAudio))
    assert len(pcm) == len(falling_tone())
    assert len(pcm) / 2 / TONE_HZ > 0.5
    assert line.history() == [("user", "hello", False)]  # it was not heard in words


@on_a_line
async def test_a_call_in_which_nothing_works_ends_with_a_farewell() -> None:
    line = Line(shows_failures=False, apology_s=2)
    for turn in (1, 2, 3):
        failed(line, turn)
        assert line.closed is None
        await asyncio.sleep(3)
    assert [event.text for event in line.of(ev.ReplyText)] == [SORRY, SORRY, FAREWELLS["en"]]
    assert heard(line) == 6
    assert line.closed == (1011, "too many turns have failed")


@on_a_line
async def test_a_turn_that_is_answered_sets_the_count_of_failures_back() -> None:
    line = Line(shows_failures=False, apology_s=1, failure_limit=2)
    for turn in (1, 3, 5):
        failed(line, turn)
        await asyncio.sleep(2)
        line.turn(turn + 1, "again", "yes")
        await asyncio.sleep(2)
    assert line.closed is None


@on_a_line
async def test_who_hears_of_it() -> None:
    await check_who_hears(True, "auto", 0)
    await check_who_hears(True, "always", 2)
    await check_who_hears(True, "never", 0)
    await check_who_hears(False, "never", 0)


async def check_who_hears(shows_failures: bool, wanted: str, seconds: float) -> None:
    line = Line(shows_failures=shows_failures, apology_s=2, speak_failures=wanted)
    for turn in (1, 2, 3, 4) if shows_failures else (1,):
        failed(line, turn)
        await asyncio.sleep(3)
    assert heard(line) == seconds * len(ended(line))
    assert {one.in_reply for one in line.of(ev.Failed)} == {bool(seconds)}
    assert (line.closed is None) == shows_failures  # a client that is told decides when it has had enough


@on_a_line
async def test_a_reply_that_breaks_off_ends_with_the_apology() -> None:
    line = Line(shows_failures=False, apology_s=2)
    line.asked(1, "hello")
    line.reply(1, "one two three four", seconds=4, done=False)
    line.log(fr.ReplySentence(line.id, 1, 0, 1, "Never spoken.", "", 1.0, "en"), fr.StageFailed("tts", 1, 0, "gone"))
    await asyncio.sleep(8)
    assert (heard(line, 1), heard(line)) == (4, 2)
    assert line.history()[-1] == ("assistant", f"one two three four {SORRY}", True)


@on_a_line
async def test_of_a_sentence_that_breaks_off_only_what_was_heard_is_kept() -> None:
    line = Line(shows_failures=False, apology_s=2)
    line.asked(1, "hello")
    line.log(fr.ReplyStarted(1, 0, 0), fr.ReplySentence(line.id, 1, 0, 0, "one two three four", "", 1.0, "en"))
    words = tuple(Word(word, SECOND * at, SECOND * (at + 1)) for at, word in enumerate(("one", "two")))
    line.log(fr.VoiceChunk(1, 0, 0, 0, SECOND, np.full(2 * SECOND, 1, "<i2").tobytes(), words))
    line.log(fr.StageFailed("tts", 1, 0, "gone"))
    await asyncio.sleep(6)
    assert line.history()[-1] == ("assistant", f"one two {SORRY}", True)


@on_a_line
async def test_a_reply_that_is_only_shown_shows_it() -> None:
    line = Line(shows_failures=True, apology_s=2, speak_failures="always", spoken=False)
    failed(line, 1)
    await asyncio.sleep(1)
    assert line.received() == ["1 began", f"1: {SORRY}", "1 failed"]


@on_a_line
async def test_a_goodbye_that_fails_is_heard_too() -> None:
    line = Line(shows_failures=False, apology_s=2, goodbye="Bye.")
    line.session.hang_up(1000, "goodbye")
    line.asked(1, options=ReplyOptions(say="Bye.", interruptible=False))
    line.log(fr.StageFailed("tts", 1, 0, "gone"))
    await asyncio.sleep(3)
    assert heard(line) == 2
    assert line.closed == (1000, "goodbye")


@on_a_line
async def test_a_reply_that_was_prepared_and_failed_is_asked_for_again_without_a_word() -> None:
    line = Line(shows_failures=False, apology_s=2)
    line.speech(1)
    line.pause(1, "hello")
    line.commit(1)
    line.log(fr.StageFailed("llm", 1, 0, "gone"))
    assert not line.of(ev.Failed, ev.ReplyBegan)
    (again,) = [job for job in line.jobs if isinstance(job, fr.TranscriptFinal)]
    line.log(fr.StageFailed("llm", 1, again.revision, "gone"))
    await asyncio.sleep(3)
    assert heard(line) == 2


def test_what_is_said_follows_the_language_and_the_agent() -> None:
    german = SessionSettings(language="de-AT")
    assert apology(german) == APOLOGIES["de"]
    assert apology(SessionSettings(language="tlh")) == APOLOGIES["en"]
    own = (Phrase("de", "Hoppla."), Phrase("en", "Oops."))
    assert apology(SessionSettings(language="de", failure_texts=own)) == "Hoppla."
    assert apology(SessionSettings(language="fr", failure_texts=own)) == APOLOGIES["fr"]
    assert apology(SessionSettings(language="de", failure_text="Ach.", failure_texts=own)) == "Ach."
    assert farewell(german) == FAREWELLS["de"]
    assert farewell(SessionSettings(goodbye="Bye.")) == "Bye."
    assert APOLOGIES.keys() == FAREWELLS.keys() >= {"en", "de", "es", "fr", "hi"}
