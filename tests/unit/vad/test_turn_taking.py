"""Turn-taking: the defaults, the table, and invariants over random input."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.vad.engine import WINDOW_SAMPLES
from services.vad.turn_state import TurnState, state_fields
from services.vad.turn_table import TABLE, Signal, State
from services.vad.turn_taking import TurnTaker
from shared.protocol.frames import (
    EMPTY,
    Frame,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TranscriptFinal,
    TurnCommitted,
    TurnDiscarded,
)
from shared.protocol.session import ReplyOptions, SessionSettings

DEFAULTS = SessionSettings()


def hear(taker: TurnTaker, *runs: tuple[float, int]) -> list[tuple[int, Frame]]:
    """Feed runs of (probability, number of windows). Returns each fact with the number of windows processed by then."""
    facts: list[tuple[int, Frame]] = []
    for probability, windows in runs:
        for _ in range(windows):
            found = taker.hear(probability, f"{1000 + 20 * taker.turn.window}-0")
            facts += [(taker.turn.window, fact) for fact in found]
    return facts


def test_the_defaults_in_windows() -> None:
    facts = hear(TurnTaker("s", DEFAULTS), (0, 50), (1, 40), (0, 60))
    assert [(window, type(fact)) for window, fact in facts] == [
        (55, SpeechStarted),
        (98, SpeechPaused),
        (115, TurnCommitted),
    ]
    started, paused, committed = (fact for _, fact in facts)
    assert isinstance(started, SpeechStarted)
    assert (started.start, started.onset) == (35 * WINDOW_SAMPLES, 50 * WINDOW_SAMPLES)  # 300 ms of pre-roll
    assert isinstance(paused, SpeechPaused)
    assert paused.end == 90 * WINDOW_SAMPLES
    assert isinstance(committed, TurnCommitted)
    assert (committed.end, committed.decided_at) == (90 * WINDOW_SAMPLES, 115 * WINDOW_SAMPLES)


def test_the_cursor_is_older_than_every_later_entry() -> None:
    (_, started), *_ = hear(TurnTaker("s", DEFAULTS), (1, 5))
    assert isinstance(started, SpeechStarted)
    assert started.cursor == f"{1000 + 20 * 4 - 1}-{2**64 - 1}"


def test_the_start_of_speech_carries_language_and_hints() -> None:
    (_, started), *_ = hear(TurnTaker("s", replace(DEFAULTS, language="de", hints="Ada, Boole")), (1, 5))
    assert isinstance(started, SpeechStarted)
    assert (started.language, started.hints) == ("de", "Ada, Boole")


def test_speech_during_a_pause_raises_the_revision() -> None:
    facts = [fact for _, fact in hear(TurnTaker("s", DEFAULTS), (1, 20), (0, 20), (1, 10), (0, 40))]
    assert [(type(fact), getattr(fact, "turn", 0), getattr(fact, "revision", 0)) for fact in facts] == [
        (SpeechStarted, 1, 0),
        (SpeechPaused, 1, 0),
        (SpeechResumed, 1, 1),
        (SpeechPaused, 1, 1),
        (TurnCommitted, 1, 1),
    ]


def test_a_click_during_a_pause_does_not_delay_the_commit() -> None:
    plain = hear(TurnTaker("s", DEFAULTS), (1, 20), (0, 40))
    clicked = hear(TurnTaker("s", DEFAULTS), (1, 20), (0, 12), (1, 2), (0, 26))
    assert plain == clicked


def test_speech_shorter_than_start_ms_begins_no_turn() -> None:
    assert hear(TurnTaker("s", DEFAULTS), (1, 4), (0, 10), (1, 4), (0, 50)) == []


def test_the_longest_turn_is_cut_and_the_next_does_not_overlap_it() -> None:
    taker = TurnTaker("s", replace(DEFAULTS, longest_ms=2000))
    facts = [fact for _, fact in hear(taker, (1, 150))]
    assert [type(fact) for fact in facts] == [SpeechStarted, TurnCommitted, SpeechStarted]
    cut, again = facts[1], facts[2]
    assert isinstance(cut, TurnCommitted)
    assert isinstance(again, SpeechStarted)
    assert again.start >= cut.end


def test_a_typed_turn_commits_the_spoken_one_without_a_reply() -> None:
    taker = TurnTaker("s", DEFAULTS)
    hear(taker, (1, 20))
    spoken, typed, text = taker.ask("9000-0", "hello", ReplyOptions())
    assert isinstance(spoken, TurnCommitted)
    assert (spoken.turn, spoken.options.wants_reply) == (1, False)
    assert isinstance(typed, TurnCommitted)
    assert (typed.turn, typed.start, typed.end) == (2, taker.position, taker.position)
    assert text == TranscriptFinal("s", 2, 0, "hello", ReplyOptions())


def test_every_commit_of_the_client_is_answered() -> None:
    taker = TurnTaker("s", DEFAULTS)
    assert taker.commit("1-0", ReplyOptions()) == [TurnDiscarded(0, 0, EMPTY)]
    hear(taker, (1, 20))
    assert [type(fact) for fact in taker.commit("1-0", ReplyOptions())] == [TurnCommitted]


def test_without_turn_detection_everything_up_to_the_commit_is_the_turn() -> None:
    taker = TurnTaker("s", replace(DEFAULTS, detect_turns=False, longest_ms=2000))
    facts = hear(taker, (0, 100), (1, 60))
    assert [type(fact) for _, fact in facts] == [SpeechStarted]
    facts += hear(taker, (0.4, 40))  # longer than `longest_ms`
    started = facts[0][1]
    assert isinstance(started, SpeechStarted)
    assert not started.interrupts
    (committed,) = taker.commit("9-0", ReplyOptions())
    assert isinstance(committed, TurnCommitted)
    assert (committed.start, committed.end) == (0, 200 * WINDOW_SAMPLES)


@pytest.mark.parametrize(("state", "signal"), [(state, signal) for state in State for signal in Signal])
def test_a_signal_that_is_not_in_the_table_is_ignored(state: State, signal: Signal) -> None:
    taker = TurnTaker("s", DEFAULTS)
    taker.turn.state = state
    before = state_fields(taker.turn)
    facts = taker._step(signal, "1-0", ReplyOptions())
    if (state, signal) in TABLE:
        assert len(facts) == 1
        assert taker.turn.state == TABLE[state, signal][0]
    else:
        assert facts == []
        assert state_fields(taker.turn) == before


Event = float | str
talk = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9]), st.integers(1, 40)),
        st.tuples(st.sampled_from(["commit", "clear", "ask"]), st.just(1)),
    ),
    max_size=25,
).map(lambda runs: [what for what, times in runs for _ in range(times)])
session_settings = st.builds(
    SessionSettings,
    start_ms=st.sampled_from([20, 100, 300]),
    pause_ms=st.sampled_from([60, 160]),
    endpoint_ms=st.sampled_from([160, 500]),
    preroll_ms=st.sampled_from([0, 300]),
    longest_ms=st.sampled_from([1000, 60_000]),
    detect_turns=st.booleans(),
)


def feed(taker: TurnTaker, events: Sequence[Event], begin: int = 0) -> list[Frame]:
    facts: list[Frame] = []
    for number, event in enumerate(events):
        entry = f"{10_000 + begin + number}-0"
        match event:
            case "commit":
                facts += taker.commit(entry, ReplyOptions())
            case "clear":
                facts += taker.clear(entry, "client")
            case "ask":
                facts += taker.ask(entry, "typed", ReplyOptions())
            case float():
                facts += taker.hear(event, entry)
    return facts


@settings(max_examples=150)
@given(config=session_settings, events=talk)
def test_turns_are_complete_and_in_order_for_any_input(config: SessionSettings, events: list[Event]) -> None:
    turn, revision, started, last_end = 0, 0, None, 0
    for fact in feed(TurnTaker("s", config), events):
        match fact:
            case SpeechStarted():
                assert started is None
                assert (fact.turn, fact.revision) == (turn + 1, 0)
                assert last_end <= fact.start <= fact.onset
                turn, revision, started = fact.turn, 0, fact
            case SpeechResumed():
                assert (fact.turn, fact.revision) == (turn, revision + 1)
                revision += 1
            case SpeechPaused():
                assert started is not None
                assert (fact.turn, fact.revision) == (turn, revision)
                assert started.onset < fact.end
            case TurnDiscarded(reason=reason) if reason == EMPTY:
                assert started is None
            case TurnDiscarded():
                assert started is not None
                assert (fact.turn, fact.revision) == (turn, revision)
                started = None
            case TurnCommitted() if started is not None:
                assert (fact.turn, fact.revision) == (turn, revision)
                assert started.start == fact.start < fact.end <= fact.decided_at
                started, last_end = None, fact.end
            case TurnCommitted():
                assert (fact.turn, fact.start) == (turn + 1, fact.end)
                turn, revision = fact.turn, 0


@settings(max_examples=100)
@given(config=session_settings, events=talk, cut=st.integers(0, 500))
def test_a_takeover_does_not_change_the_facts(config: SessionSettings, events: list[Event], cut: int) -> None:
    cut = min(cut, len(events))
    whole = TurnTaker("s", config)
    feed(whole, events[:cut])
    expected = feed(whole, events[cut:], cut)
    first = TurnTaker("s", config)
    feed(first, events[:cut])
    successor = TurnTaker("s", config, TurnState(*state_fields(first.turn)))
    assert feed(successor, events[cut:], cut) == expected


def speculated(settings: SessionSettings, *runs: tuple[float, int]) -> list[bool]:
    """Return for each pause whether a reply is prepared."""
    return [fact.speculate for _, fact in hear(TurnTaker("s", settings), *runs) if isinstance(fact, SpeechPaused)]


def test_a_reply_is_prepared_at_a_limited_number_of_pauses() -> None:
    paused = ((1, 20), (0, 12))
    assert speculated(DEFAULTS, *paused * 5, (0, 40)) == [True, True, True, False, False]
    assert speculated(replace(DEFAULTS, speculations=1), *paused * 3) == [True, False, False]
    assert speculated(replace(DEFAULTS, speculations=0), *paused * 2) == [False, False]
    assert speculated(replace(DEFAULTS, create_reply=False), *paused) == [False]
    # The count starts again with the next turn.
    assert speculated(replace(DEFAULTS, speculations=1), *paused, (0, 40), *paused) == [True, True]


def test_no_reply_is_prepared_within_a_long_turn() -> None:
    settings = replace(DEFAULTS, speculate_longest_ms=2000, preroll_ms=0)
    assert speculated(settings, (1, 95), (0, 12), (1, 20), (0, 12)) == [True, False]


def test_the_endpointing_engine_sets_the_wait_of_one_pause() -> None:
    taker = TurnTaker("s", DEFAULTS)
    ((_, started), (_, paused)) = hear(taker, (1, 30), (0, 10))
    assert isinstance(started, SpeechStarted)
    assert isinstance(paused, SpeechPaused)
    taker.wait(paused.turn, paused.revision, 1000)
    assert hear(taker, (0, 39)) == []
    ((_, committed),) = hear(taker, (0, 1))
    assert isinstance(committed, TurnCommitted)
    assert (committed.decided_at - committed.end) / 16 == 1000
    hear(taker, (1, 30), (0, 10))
    assert [type(fact) for _, fact in hear(taker, (0, 15))] == [TurnCommitted]  # the next pause uses endpoint_ms again


def test_a_late_answer_of_the_endpointing_engine_is_ignored() -> None:
    taker = TurnTaker("s", DEFAULTS)
    hear(taker, (1, 30), (0, 10), (1, 10))  # the person speaks again
    taker.wait(1, 0, 100)
    hear(taker, (0, 10))
    taker.wait(1, 0, 100)  # for the previous pause
    taker.wait(2, 0, 100)
    assert hear(taker, (0, 14)) == []
    assert [type(fact) for _, fact in hear(taker, (0, 1))] == [TurnCommitted]


def test_the_wait_is_never_shorter_than_the_pause() -> None:
    taker = TurnTaker("s", DEFAULTS)
    hear(taker, (1, 30), (0, 8))
    taker.wait(1, 0, 0)
    assert [type(fact) for _, fact in hear(taker, (0, 1))] == [TurnCommitted]


def test_an_unprompted_reply_is_dropped_while_someone_speaks() -> None:
    taker = TurnTaker("s", DEFAULTS)
    hear(taker, (1, 30))
    assert taker.ask("1000-0", "", ReplyOptions(say="Still there?"), unless_spoken=True) == ()
    assert [type(fact) for fact in taker.ask("1000-0", "", ReplyOptions(say="Now!"))] == [
        TurnCommitted,  # the spoken turn, without a reply
        TurnCommitted,
        TranscriptFinal,
    ]
