"""The fused engine: sound, words and pace, in virtual time."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vad.endpointing.engine import Pause, Words
from services.vad.endpointing.expected_cost import CUT_MS, Pace, log_odds, wait_ms
from services.vad.endpointing.fused import BLIND_MS, FusedSpeaker, fuse
from services.vad.engine import WINDOW_MS
from services.vad.turn_taking import TurnTaker
from shared.protocol.frames import Frame, SpeechPaused, SpeechResumed, TurnCommitted
from shared.protocol.session import ReplyOptions, SessionSettings

DEFAULTS = SessionSettings()
COMPLETE, INCOMPLETE = 0.97, 0.03
WORDS_AFTER = 7
"""Windows from a pause to its words."""


def waits(sound: float, text: str | None, pace: Pace | None = None, confidence: float | None = None) -> int:
    words = None if text is None else Words(text, confidence=confidence)
    return fuse(sound, words, pace or Pace(), DEFAULTS).wait_ms


def test_a_sentence_that_sounds_complete_is_over_at_once() -> None:
    assert waits(COMPLETE, "I would like to speak to somebody in sales.") == DEFAULTS.complete_ms
    assert waits(COMPLETE, "Where are you from?") == DEFAULTS.complete_ms


def test_open_words_outweigh_a_sound_of_completeness() -> None:
    assert waits(COMPLETE, "I would like to book a table for") > 1_200
    assert waits(COMPLETE, "My number is 555.") > 1_000


def test_an_incomplete_sound_outweighs_a_full_stop() -> None:
    assert waits(INCOMPLETE, "I was born on Monday.") > DEFAULTS.complete_ms + 100


def test_open_words_that_sound_incomplete_wait_for_the_longest_time() -> None:
    assert waits(INCOMPLETE, "I would like to book a table for") == DEFAULTS.incomplete_ms


def test_an_answer_is_over_however_it_sounds() -> None:
    assert waits(0.3, "Yes.") == DEFAULTS.complete_ms


def test_without_words_the_pause_lasts_at_least_as_long_as_the_fixed_one() -> None:
    assert waits(COMPLETE, None) == DEFAULTS.endpoint_ms
    assert DEFAULTS.endpoint_ms < waits(INCOMPLETE, None) <= DEFAULTS.endpoint_ms + BLIND_MS
    assert waits(COMPLETE, "") == DEFAULTS.endpoint_ms
    assert waits(COMPLETE, "ik ga naar", None) <= waits(INCOMPLETE, "ik ga naar", None)


def test_a_sentence_counts_for_less_if_the_recogniser_is_unsure_of_it() -> None:
    text = "We want to come on the second weekend."
    assert waits(0.7, text, confidence=-0.05) == DEFAULTS.complete_ms
    assert waits(0.7, text, confidence=-0.9) > DEFAULTS.endpoint_ms
    assert waits(0.7, text, confidence=-2.0) == waits(0.7, text, confidence=-5.0)


def test_open_words_count_however_sure_the_recogniser_is() -> None:
    text = "I would like to book a table for"
    assert waits(COMPLETE, text, confidence=-2.0) == waits(COMPLETE, text, confidence=-0.1)


def test_somebody_who_pauses_often_and_long_gets_more_time() -> None:
    slow, quick = Pace(), Pace()
    for _ in range(8):
        slow.paused(900)
        quick.ended()
    slow.ended()
    text = "We want to come on the second weekend"
    assert waits(0.2, text, slow) > waits(0.2, text) > waits(0.2, text, quick)


@given(st.floats(0, 1), st.floats(0, 1), st.text(max_size=40), st.lists(st.integers(0, 5_000), max_size=20))
def test_the_wait_has_limits_and_falls_with_the_sound_of_completeness(
    one: float, other: float, text: str, pauses: list[int]
) -> None:
    pace = Pace()
    for pause_ms in pauses:
        pace.paused(pause_ms)
        pace.ended()
    waited = [waits(sound, text, pace) for sound in sorted((one, other))]
    assert DEFAULTS.complete_ms <= waited[1] <= waited[0] <= DEFAULTS.incomplete_ms


def test_the_wait_is_the_one_of_least_expected_cost() -> None:
    def cost(waited_ms: float, over: float) -> float:
        return over * waited_ms + (1 - over) * CUT_MS * math.exp(-waited_ms / 500)

    best = wait_ms(log_odds(0.6, 0.99), 500)
    assert cost(best, 0.6) <= min(cost(waited_ms, 0.6) for waited_ms in range(0, 3_000, 10))


async def test_the_sound_of_a_pause_is_judged_once() -> None:
    asked: list[bytes] = []

    async def predict(pcm: bytes) -> float:
        asked.append(pcm)
        return COMPLETE

    speaker = FusedSpeaker(predict)
    first = await speaker.decide(Pause(1, 0, b"a"), DEFAULTS)
    second = await speaker.decide(Pause(1, 0, b"a and more", Words("Where are you from?")), DEFAULTS)
    await speaker.decide(Pause(1, 1, b"b"), DEFAULTS)
    assert asked == [b"a", b"b"]
    assert (first.wait_ms, second.wait_ms) == (DEFAULTS.endpoint_ms, DEFAULTS.complete_ms)
    assert second.reasons == ("sounds complete: 97%", "words: question", "pauses of 600 ms")


async def test_the_pace_survives_a_takeover() -> None:
    async def predict(pcm: bytes) -> float:
        return 0.6

    speaker, successor = FusedSpeaker(predict), FusedSpeaker(predict)
    for pause_ms in (700, 900, 400):
        speaker.resumed(pause_ms)
        speaker.committed(500)
    successor.restore(speaker.state())
    successor.restore([1.0])  # of another engine
    assert successor.state() == speaker.state()
    pause = Pause(1, 0, words=Words("We want to come on Monday"))
    assert await successor.decide(pause, DEFAULTS) == await speaker.decide(pause, DEFAULTS)


async def converse(pattern: str, words: Mapping[int, str], sound: float) -> list[tuple[str, int]]:
    """Feed windows (`x` speech, `.` silence, 100 ms each). Returns pauses, resumptions and commits, with the silence in ms.

    `words`: what the recogniser says at each revision, `WORDS_AFTER` windows after the pause began.
    """

    async def predict(pcm: bytes) -> float:
        return sound

    speaker, taker = FusedSpeaker(predict), TurnTaker("s", DEFAULTS, transcribe=True)
    due: dict[int, Pause] = {}
    seen: list[tuple[str, int]] = []
    for at in range(len(pattern) * 100 // WINDOW_MS):
        if (found := due.pop(at, None)) is not None:
            decision = await speaker.decide(found, DEFAULTS)
            taker.wait(1, found.revision, decision.wait_ms)
        for fact in taker.hear(float(pattern[at * WINDOW_MS // 100] == "x"), f"{at + 1}-0"):
            silence_ms = (taker.turn.window - taker.turn.last) * WINDOW_MS
            match fact:
                case SpeechPaused():
                    assert fact.transcribe
                    taker.wait(1, fact.revision, (await speaker.decide(Pause(1, fact.revision), DEFAULTS)).wait_ms)
                    if fact.revision in words:
                        due[at + WORDS_AFTER] = Pause(1, fact.revision, words=Words(words[fact.revision]))
                    seen.append(("pause", silence_ms))
                case SpeechResumed():
                    seen.append(("resume", silence_ms))
                case TurnCommitted():
                    seen.append(("commit", silence_ms))
                case _:
                    pass
    return seen


async def test_a_finished_sentence_is_committed_when_its_words_arrive() -> None:
    seen = await converse("xxxxxxxxxx" + "." * 20, {0: "Where are you from?"}, COMPLETE)
    assert seen == [("pause", 160), ("commit", 300)]


@pytest.mark.parametrize("thought", [6, 8, 10])
async def test_a_pause_for_thought_after_open_words_does_not_end_the_turn(thought: int) -> None:
    texts = {0: "I would like to book a table for", 1: "I would like to book a table for four people on Friday."}
    seen = await converse("xxxxxxxxxx" + "." * thought + "xxxxxxxxxx" + "." * 20, texts, COMPLETE)
    assert [what for what, _ in seen] == ["pause", "resume", "pause", "commit"]
    assert seen[-1] == ("commit", 300)


async def test_without_words_it_decides_as_the_fixed_engine() -> None:
    assert await converse("xxxxxxxxxx" + "." * 20, {}, COMPLETE) == [("pause", 160), ("commit", DEFAULTS.endpoint_ms)]


async def test_words_that_come_after_the_commit_change_nothing() -> None:
    seen = await converse("xxxxxxxxxx" + "." * 20, {1: "never asked for"}, COMPLETE)
    assert seen[-1] == ("commit", DEFAULTS.endpoint_ms)


async def test_the_commit_says_what_decided_it() -> None:
    taker = TurnTaker("s", DEFAULTS)

    def hear(probability: float, windows: int) -> list[Frame]:
        return [fact for _ in range(windows) for fact in taker.hear(probability, "1-0")]

    hear(1.0, 20)
    hear(0.0, 9)
    taker.wait(1, 0, 300, ("words: question",))
    (committed,) = hear(0.0, 10)
    assert isinstance(committed, TurnCommitted)
    assert committed.reasons == ("words: question",)
    hear(1.0, 20)
    hear(0.0, 9)
    taker.wait(2, 0, 300, ("words: question",))
    (by_client,) = taker.commit("2-0", ReplyOptions())
    assert isinstance(by_client, TurnCommitted)
    assert by_client.reasons == ()
