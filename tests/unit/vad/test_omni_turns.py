"""Turns that are answered as they sound: the sound of each revision is given on once, at its pause or at the commit."""

from collections.abc import Sequence
from dataclasses import replace

from services.vad.engine import WINDOW_SAMPLES
from services.vad.turn_state import TurnState, state_fields
from services.vad.turn_taking import TurnTaker
from shared.protocol.frames import (
    Frame,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TranscriptFinal,
    TurnAudioReady,
    TurnCommitted,
    TurnDiscarded,
)
from shared.protocol.session import ReplyOptions, SessionSettings

OMNI = SessionSettings(route="omni")


def hear(taker: TurnTaker, *runs: tuple[float, int]) -> list[Frame]:
    """Feed runs of (probability, windows)."""
    facts: list[Frame] = []
    for probability, windows in runs:
        for _ in range(windows):
            facts += taker.hear(probability, f"{1000 + 20 * taker.now.window}-0")
    return facts


def kinds(facts: Sequence[Frame]) -> list[tuple[type, int, int]]:
    return [(type(fact), getattr(fact, "turn", 0), getattr(fact, "revision", 0)) for fact in facts]


def test_the_sound_is_given_on_at_the_pause_and_not_again() -> None:
    facts = hear(TurnTaker("s", OMNI), (0, 50), (1, 40), (0, 60))
    assert kinds(facts) == [(SpeechStarted, 1, 0), (SpeechPaused, 1, 0), (TurnAudioReady, 1, 0), (TurnCommitted, 1, 0)]
    started, heard = facts[0], facts[2]
    assert isinstance(started, SpeechStarted)
    assert started.route == "omni"
    assert heard == TurnAudioReady("s", 1, 0, started.cursor, started.start, 90 * WINDOW_SAMPLES, ReplyOptions())


def test_every_revision_is_given_on_from_the_beginning_of_the_turn() -> None:
    facts = hear(TurnTaker("s", OMNI), (1, 20), (0, 20), (1, 10), (0, 40))
    assert kinds(facts) == [
        (SpeechStarted, 1, 0), (SpeechPaused, 1, 0), (TurnAudioReady, 1, 0), (SpeechResumed, 1, 1),
        (SpeechPaused, 1, 1), (TurnAudioReady, 1, 1), (TurnCommitted, 1, 1),
    ]  # fmt: skip
    first, second = (fact for fact in facts if isinstance(fact, TurnAudioReady))
    assert (first.cursor, first.start, first.end) == (second.cursor, 0, 20 * WINDOW_SAMPLES)
    assert second.end == 50 * WINDOW_SAMPLES


def test_without_speculation_it_is_given_on_at_the_commit() -> None:
    facts = hear(TurnTaker("s", replace(OMNI, speculations=0)), (1, 20), (0, 40))
    assert kinds(facts)[1:] == [(SpeechPaused, 1, 0), (TurnCommitted, 1, 0), (TurnAudioReady, 1, 0)]


def test_the_longest_turn_is_given_on_as_it_stands() -> None:
    facts = hear(TurnTaker("s", replace(OMNI, longest_ms=1000)), (1, 50))
    assert kinds(facts) == [(SpeechStarted, 1, 0), (TurnCommitted, 1, 0), (TurnAudioReady, 1, 0)]


def test_a_turn_that_nobody_is_to_answer_is_not_given_on() -> None:
    facts = hear(TurnTaker("s", replace(OMNI, create_reply=False)), (1, 20), (0, 40))
    assert TurnAudioReady not in [type(fact) for fact in facts]
    taker = TurnTaker("s", OMNI)
    hear(taker, (1, 20))
    assert [type(fact) for fact in taker.clear("2000-0", "client")] == [TurnDiscarded]


def test_push_to_talk_is_answered_with_the_options_of_the_commit() -> None:
    taker = TurnTaker("s", replace(OMNI, detect_turns=False))
    hear(taker, (0, 30))
    options = ReplyOptions(instructions="Be kind.")
    over, heard = taker.commit("2000-0", options)
    assert isinstance(heard, TurnAudioReady)
    assert (heard.options, heard.start, heard.end) == (options, 0, 30 * WINDOW_SAMPLES)
    assert isinstance(over, TurnCommitted)


def test_the_route_holds_for_the_whole_turn() -> None:
    taker = TurnTaker("s", OMNI)
    facts = hear(taker, (1, 20))
    taker.configure(SessionSettings())
    facts += hear(taker, (0, 40))
    assert [type(fact) for fact in facts if isinstance(fact, TurnAudioReady)] == [TurnAudioReady]
    taker.configure(OMNI)
    assert TurnAudioReady in [type(fact) for fact in hear(taker, (1, 20), (0, 40))]
    taker.configure(SessionSettings())
    later = hear(taker, (1, 20))
    taker.configure(OMNI)
    later += hear(taker, (0, 40))
    assert TurnAudioReady not in [type(fact) for fact in later]


def test_a_successor_goes_on_where_the_turn_stood() -> None:
    taker = TurnTaker("s", OMNI)
    (started,) = hear(taker, (1, 20))
    successor = TurnTaker("s", OMNI, TurnState(*state_fields(taker.now)))
    _, heard = hear(successor, (0, 10))
    assert isinstance(started, SpeechStarted)
    assert isinstance(heard, TurnAudioReady)
    assert heard.cursor == started.cursor
    again = TurnTaker("s", OMNI, TurnState(*state_fields(successor.now)))
    assert kinds(hear(again, (0, 40))) == [(TurnCommitted, 1, 0)]


def test_a_reply_that_is_asked_for_answers_what_was_spoken_before_once() -> None:
    taker = TurnTaker("s", replace(OMNI, detect_turns=False))
    hear(taker, (0, 30))
    assert kinds(taker.commit("2000-0", ReplyOptions(wants_reply=False))) == [(TurnCommitted, 1, 0)]
    over, heard = taker.ask("2000-1", "", ReplyOptions())
    assert kinds([over, heard]) == [(TurnCommitted, 2, 0), (TurnAudioReady, 2, 0)]
    assert isinstance(heard, TurnAudioReady)
    assert (heard.spoken, heard.start, heard.end) == (1, 0, 30 * WINDOW_SAMPLES)
    assert kinds(taker.ask("2000-2", "", ReplyOptions()))[1:] == [(TranscriptFinal, 3, 0)]  # what a tool answered, say


def test_it_answers_what_is_being_spoken() -> None:
    taker = TurnTaker("s", OMNI)
    hear(taker, (1, 20))
    assert kinds(taker.ask("2000-1", "", ReplyOptions())) == [
        (TurnCommitted, 1, 0), (TurnCommitted, 2, 0), (TurnAudioReady, 2, 0),
    ]  # fmt: skip


def test_it_answers_nothing_that_was_answered_taken_back_typed_over_or_heard_by_a_recogniser() -> None:
    for settings in (OMNI, SessionSettings(create_reply=False)):
        taker = TurnTaker("s", settings)
        hear(taker, (1, 20), (0, 40))
        assert kinds(taker.ask("2000-1", "", ReplyOptions()))[1:] == [(TranscriptFinal, 2, 0)]
    taker = TurnTaker("s", OMNI)
    hear(taker, (1, 20))
    taker.clear("2000-0", "client")
    assert kinds(taker.ask("2000-1", "", ReplyOptions()))[1:] == [(TranscriptFinal, 2, 0)]
    for text, options in (("Hello.", ReplyOptions()), ("", ReplyOptions(say="Hello."))):
        taker = TurnTaker("s", replace(OMNI, create_reply=False))
        hear(taker, (1, 20), (0, 40))
        assert kinds(taker.ask("2000-1", text, options))[1:] == [(TranscriptFinal, 2, 0)]
