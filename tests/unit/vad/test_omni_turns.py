"""Turns on the omni route: the audio of each revision is published once, at its pause or at the commit."""

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
    """Feed runs of (probability, number of windows)."""
    facts: list[Frame] = []
    for probability, windows in runs:
        for _ in range(windows):
            facts += taker.hear(probability, f"{1000 + 20 * taker.turn.window}-0")
    return facts


def kinds(facts: Sequence[Frame]) -> list[tuple[type, int, int]]:
    return [(type(fact), getattr(fact, "turn", 0), getattr(fact, "revision", 0)) for fact in facts]


def test_the_audio_is_published_at_the_pause_and_not_again() -> None:
    facts = hear(TurnTaker("s", OMNI), (0, 50), (1, 40), (0, 60))
    assert kinds(facts) == [(SpeechStarted, 1, 0), (SpeechPaused, 1, 0), (TurnAudioReady, 1, 0), (TurnCommitted, 1, 0)]
    started, ready = facts[0], facts[2]
    assert isinstance(started, SpeechStarted)
    assert started.route == "omni"
    assert ready == TurnAudioReady("s", 1, 0, started.cursor, started.start, 90 * WINDOW_SAMPLES, ReplyOptions())


def test_the_audio_of_every_revision_starts_at_the_beginning_of_the_turn() -> None:
    facts = hear(TurnTaker("s", OMNI), (1, 20), (0, 20), (1, 10), (0, 40))
    assert kinds(facts) == [
        (SpeechStarted, 1, 0), (SpeechPaused, 1, 0), (TurnAudioReady, 1, 0), (SpeechResumed, 1, 1),
        (SpeechPaused, 1, 1), (TurnAudioReady, 1, 1), (TurnCommitted, 1, 1),
    ]  # fmt: skip
    first, second = (fact for fact in facts if isinstance(fact, TurnAudioReady))
    assert (first.cursor, first.start, first.end) == (second.cursor, 0, 20 * WINDOW_SAMPLES)
    assert second.end == 50 * WINDOW_SAMPLES


def test_without_speculation_the_audio_is_published_at_the_commit() -> None:
    facts = hear(TurnTaker("s", replace(OMNI, speculations=0)), (1, 20), (0, 40))
    assert kinds(facts)[1:] == [(SpeechPaused, 1, 0), (TurnCommitted, 1, 0), (TurnAudioReady, 1, 0)]


def test_the_audio_of_the_longest_turn_is_published_when_it_is_cut() -> None:
    facts = hear(TurnTaker("s", replace(OMNI, longest_ms=1000)), (1, 50))
    assert kinds(facts) == [(SpeechStarted, 1, 0), (TurnCommitted, 1, 0), (TurnAudioReady, 1, 0)]


def test_the_audio_of_a_turn_without_a_reply_is_not_published() -> None:
    facts = hear(TurnTaker("s", replace(OMNI, create_reply=False)), (1, 20), (0, 40))
    assert TurnAudioReady not in [type(fact) for fact in facts]
    taker = TurnTaker("s", OMNI)
    hear(taker, (1, 20))
    assert [type(fact) for fact in taker.clear("2000-0", "client")] == [TurnDiscarded]


def test_push_to_talk_uses_the_options_of_the_commit() -> None:
    taker = TurnTaker("s", replace(OMNI, detect_turns=False))
    hear(taker, (0, 30))
    options = ReplyOptions(instructions="Be kind.")
    over, ready = taker.commit("2000-0", options)
    assert isinstance(ready, TurnAudioReady)
    assert (ready.options, ready.start, ready.end) == (options, 0, 30 * WINDOW_SAMPLES)
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


def test_another_worker_continues_the_turn_from_its_state() -> None:
    taker = TurnTaker("s", OMNI)
    (started,) = hear(taker, (1, 20))
    successor = TurnTaker("s", OMNI, TurnState(*state_fields(taker.turn)))
    _, ready = hear(successor, (0, 10))
    assert isinstance(started, SpeechStarted)
    assert isinstance(ready, TurnAudioReady)
    assert ready.cursor == started.cursor
    again = TurnTaker("s", OMNI, TurnState(*state_fields(successor.turn)))
    assert kinds(hear(again, (0, 40))) == [(TurnCommitted, 1, 0)]


def test_a_requested_reply_answers_the_unanswered_turn_before_it_once() -> None:
    taker = TurnTaker("s", replace(OMNI, detect_turns=False))
    hear(taker, (0, 30))
    assert kinds(taker.commit("2000-0", ReplyOptions(wants_reply=False))) == [(TurnCommitted, 1, 0)]
    over, ready = taker.ask("2000-1", "", ReplyOptions())
    assert kinds([over, ready]) == [(TurnCommitted, 2, 0), (TurnAudioReady, 2, 0)]
    assert isinstance(ready, TurnAudioReady)
    assert (ready.spoken, ready.start, ready.end) == (1, 0, 30 * WINDOW_SAMPLES)
    assert kinds(taker.ask("2000-2", "", ReplyOptions()))[1:] == [
        (TranscriptFinal, 3, 0)
    ]  # for example, after a tool result


def test_a_requested_reply_answers_the_turn_in_progress() -> None:
    taker = TurnTaker("s", OMNI)
    hear(taker, (1, 20))
    assert kinds(taker.ask("2000-1", "", ReplyOptions())) == [
        (TurnCommitted, 1, 0), (TurnCommitted, 2, 0), (TurnAudioReady, 2, 0),
    ]  # fmt: skip


def test_a_requested_reply_does_not_use_audio_that_was_answered_cleared_or_transcribed() -> None:
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
