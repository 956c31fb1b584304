"""Playout: every sample once and in order, whatever order and however often it comes."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.conversation.heard import SentenceSpan, cut_text, heard_text
from services.edge.conversation.history import Conversation
from services.edge.conversation.playout import Playout
from shared.protocol.frames import VoiceChunk
from shared.protocol.session import Message, Word
from shared.protocol.turns import TurnGate, TurnGates

RATE = 16_000


def pcm(first: int, samples: int) -> bytes:
    return np.arange(first, first + samples, dtype="<i2").tobytes()


def chunk(sentence: int, offset: int, samples: int) -> VoiceChunk:
    return VoiceChunk(1, 0, sentence, offset, RATE, pcm(1000 * sentence + offset, samples), ())


def everything(playout: Playout, now_s: float = 0.0) -> bytes:
    return b"".join(playout.release(now_s))


@settings(max_examples=150)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    slices=st.lists(st.integers(1, 120), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_any_order_and_any_doubling_gives_the_reply_once(lengths: list[int], slices: list[int], seed: int) -> None:
    """Two workers speak every sentence, cut differently; what they send arrives in any order and some of it twice."""
    pieces: list[tuple[VoiceChunk | None, int, int]] = []
    for index, length in enumerate(lengths):
        for fence, step in ((1, slices[0]), (1, slices[-1])):
            pieces += [(chunk(index, at, min(step, length - at)), index, fence) for at in range(0, length, step)]
        pieces.append((None, index, 0))
    shuffle = random.Random(seed)
    pieces += shuffle.sample(pieces, len(pieces) // 2)
    shuffle.shuffle(pieces)
    playout = Playout(RATE, 60)
    got = b""
    for number, (piece, index, fence) in enumerate(pieces):
        if number == len(pieces) // 2:
            playout.expect(len(lengths))
        if piece is None:
            playout.sentence_done(index, lengths[index])
        else:
            playout.add(piece, fence)
        got += everything(playout)
    assert got == b"".join(pcm(1000 * index, length) for index, length in enumerate(lengths))
    assert playout.fully_sent
    ends = np.cumsum(lengths).tolist()
    assert [place.end for place in playout.sentences()] == ends


def test_a_gap_waits() -> None:
    playout = Playout(RATE, 60)
    playout.add(chunk(0, 100, 100), 1)
    playout.add(chunk(1, 0, 100), 1)
    assert everything(playout) == b""
    playout.add(chunk(0, 0, 100), 1)
    assert everything(playout) == pcm(0, 200)
    playout.sentence_done(0, 200)
    assert everything(playout) == pcm(1000, 100)
    assert not playout.fully_sent


def test_an_older_attempt_is_not_mixed_into_a_newer_one() -> None:
    playout = Playout(RATE, 60)
    playout.add(chunk(0, 0, 100), 2)
    playout.add(chunk(0, 100, 100), 1)
    assert everything(playout) == pcm(0, 100)


def test_audio_is_released_so_far_ahead_and_no_further() -> None:
    playout = Playout(RATE, 0.1)
    for at in range(0, 16_000, 800):
        playout.add(chunk(0, at, 800), 1)
    assert len(everything(playout, 0.0)) == 2 * 1600
    wait_s = playout.wait_s(0.0)
    assert wait_s is not None
    assert 0 < wait_s < 0.1
    assert len(everything(playout, 0.05)) == 2 * 800


def test_a_client_that_ran_dry_begins_anew_with_what_comes_next() -> None:
    playout = Playout(RATE, 60)
    playout.add(chunk(0, 0, 1600), 1)
    everything(playout, 1.0)
    assert playout.heard(5.0) == 1600
    playout.add(chunk(0, 1600, 1600), 1)
    everything(playout, 5.0)
    assert playout.heard(5.05) == 2400


def test_heard_goes_by_the_send_clock_until_the_client_reports() -> None:
    playout = Playout(RATE, 60)
    playout.add(chunk(0, 0, 16_000), 1)
    playout.expect(1)
    playout.sentence_done(0, 16_000)
    assert playout.heard(10.0) == 0
    everything(playout, 10.0)
    assert playout.heard(10.25) == 4000
    playout.report(1600, 10.25)
    assert playout.heard(10.25) == 1600
    assert playout.heard(10.35) == 3200
    playout.report(10**9, 10.5)
    assert playout.heard(11) == 16_000
    assert playout.playing(10.7)
    assert not playout.playing(10.9)


def test_another_rate_comes_out_as_long_as_it_was() -> None:
    playout = Playout(8000, 60)
    playout.add(VoiceChunk(1, 0, 0, 0, 22_050, bytes(2 * 22_050), ()), 1)
    playout.expect(1)
    playout.sentence_done(0, 22_050)
    assert len(everything(playout)) == 2 * 8000


@given(text=st.text(max_size=60), share=st.floats(-1, 2))
def test_a_cut_text_is_a_beginning_of_whole_words(text: str, share: float) -> None:
    cut = cut_text(text, share)
    assert text.startswith(cut)
    assert len(cut) == len(text) or len(cut) <= len(text) * max(0.0, share)
    assert cut == text or not cut or text[len(cut)].isspace()


def test_what_was_heard_is_whole_sentences_and_the_words_of_the_one_that_played() -> None:
    sentences = ["One two three.", "Four five six seven.", "Eight."]
    places = [SentenceSpan(0, 100), SentenceSpan(100, 200), SentenceSpan(200, None)]
    assert heard_text(sentences, places, 150, 250) == "One two three. Four five"
    assert heard_text(sentences, places, 100, 250) == "One two three."
    assert heard_text(sentences, places, 0, 250) == ""
    assert heard_text(sentences, [*places[:2], SentenceSpan(200, 250)], 250, 250) == " ".join(sentences)
    assert heard_text(sentences, [], 0, 0) == ""


def test_a_word_was_heard_if_its_middle_was() -> None:
    words = (("One", 0, 20), ("two", 20, 60), ("three.", 60, 100))
    for heard, text in [(9, ""), (10, "One"), (39, "One"), (40, "One two"), (79, "One two"), (80, "One two three.")]:
        assert heard_text(["One two three."], [SentenceSpan(0, None, words)], heard, 100) == text


def test_words_are_found_where_they_stand_whatever_the_engine_calls_them() -> None:
    words = (("the", 0, 10), ("doctor", 10, 20), ("the", 20, 30), ("end", 30, 40))
    assert heard_text(["The Dr. the end."], [SentenceSpan(0, None, words)], 26, 40) == "The Dr. the"


@given(rate=st.sampled_from([8000, 16_000, 24_000]), heard=st.integers(0, 16_000))
def test_word_times_are_at_the_clients_rate(rate: int, heard: int) -> None:
    playout = Playout(rate, 60)
    words = tuple(Word(str(at), at, at + 1600) for at in range(0, 16_000, 1600))
    playout.add(VoiceChunk(1, 0, 0, 0, 16_000, bytes(32_000), words), 1)
    (place,) = playout.sentences()
    text = heard_text(
        [" ".join(word.text for word in words)], [place], heard * rate // 16_000, playout.received_samples
    )
    expected = sum(word.start + 800 <= heard for word in words)
    assert abs(len(text.split()) - expected) <= 1


@settings(max_examples=60)
@given(
    keeps=st.booleans(),
    moves=st.lists(
        st.tuples(st.sampled_from(["add", "wait", "pause", "resume", "report"]), st.integers(1, 2000)), max_size=60
    ),
)
def test_pausing_loses_no_sample_and_doubles_none_that_was_heard(keeps: bool, moves: list[tuple[str, int]]) -> None:
    """What a client plays is the reply from its first sample on, however often it is stopped."""
    playout, now_s, added = Playout(RATE, 0.5, keeps=keeps), 0.0, 0
    client = bytearray()  # what it has to play, by place in the reply
    for move, amount in [*moves, ("resume", 1), ("add", 2000), ("wait", 2000)]:
        match move:
            case "add":
                playout.add(chunk(0, added, amount), 1)
                added += amount
            case "wait":
                now_s += amount / RATE
            case "pause":
                playout.pause(now_s)
            case "resume" if playout.paused:
                heard = playout.heard(now_s)
                playout.resume(now_s)
                if keeps:
                    assert playout.sent == heard
                    del client[2 * heard :]
            case "report":
                playout.report(min(amount, playout.sent), now_s)
            case _:
                pass
        before = playout.heard(now_s)
        released = b"".join(playout.release(now_s))
        assert not (playout.paused and released)
        assert playout.heard(now_s) == before
        client += released
        assert client == pcm(0, added)[: len(client)]
        assert playout.sent == len(client) // 2 <= playout.received_samples
    assert client


def test_a_conversation_keeps_its_order() -> None:
    conversation = Conversation()
    for key in "abc":
        conversation.put(key, Message("user", key, 1))
    conversation.put("d", Message("user", "d", 1), after="a")
    conversation.put("e", Message("system", "e", 0), after="")
    conversation.put("b", Message("user", "B", 1))
    conversation.remove("c")
    assert [message.text for message in conversation.messages()] == ["e", "a", "d", "B"]


@given(moves=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_a_gate_only_ever_rises(moves: list[tuple[int, int]]) -> None:
    gate, highest = TurnGate(), (0, 0)
    for turn, revision in moves:
        assert gate.advance(turn, revision) == ((turn, revision) > highest)
        highest = max(highest, (turn, revision))
        assert gate.floor == highest
        assert not gate.is_stale(*highest)
        assert gate.is_stale(highest[0], highest[1] - 1)


def test_a_superseded_revision_leaves_the_turn_before_it_alone() -> None:
    gate = TurnGate()
    gate.supersede(3, 1)
    assert gate.is_stale(3, 0)
    assert not gate.is_stale(3, 1)
    assert not gate.is_stale(2, 0)
    assert not gate.supersede(3, 1)
    gate.advance(3, 1)
    assert gate.is_stale(2, 5)


def test_gates_forget_the_session_that_was_heard_of_longest_ago() -> None:
    gates = TurnGates(limit=2)
    for session in ("a", "b", "a", "c"):
        gates.of(session).advance(5, 0)
    assert gates.is_stale("a", 4, 0)
    assert not gates.is_stale("b", 4, 0)
