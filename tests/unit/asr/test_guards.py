"""What was not said is not written: no voice, no words; no loops; partial transcripts that do not flicker."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.asr.engines.agreement import Agreement
from services.asr.engines.clips import Clip, Recognition, trusted
from services.asr.engines.guards import LOOPS, Voice, has_voice, is_invented, is_too_much, without_loops
from shared.protocol.session import Word
from tests.support.sounds import hum, noise, voice

WORDS = st.lists(st.sampled_from(["yes", "no", "Oh,", "oh", "well.", "…", "好"]), max_size=24)


@pytest.mark.parametrize(
    "pcm", [b"", bytes(3), bytes(64_000), noise(2, 0.001), noise(2, 0.1), noise(2, 0.3), hum(2), voice(0.06)]
)
def test_no_voice_is_no_voice(pcm: bytes) -> None:
    assert not has_voice(pcm)


@pytest.mark.parametrize("silence_s", [0, 1, 3])
def test_a_voice_is_heard_after_silence(silence_s: int) -> None:
    assert has_voice(bytes(32_000 * silence_s) + voice(0.5))


@pytest.mark.parametrize("word", ["yes", "no", "six", "hi", "stop", "okay", "shush"])
def test_the_shortest_answers_are_a_voice_in_noise_too(speech_pcm: Callable[[str, int], bytes], word: str) -> None:
    quiet = np.frombuffer(speech_pcm(word, 16_000), "<i2").astype(np.float32)
    assert has_voice(quiet.astype("<i2").tobytes())
    assert has_voice((quiet * 0.05).astype("<i2").tobytes())  # 26 dB softer
    street = np.random.default_rng(1).normal(0, quiet.std() / 2, len(quiet))
    assert has_voice((quiet + street).clip(-32_768, 32_767).astype("<i2").tobytes())


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=40))
def test_a_voice_in_pieces_is_the_same_voice(cuts: list[int]) -> None:
    pcm = bytes(6_400) + voice(0.3, seed=1)
    gate, at = Voice(), 0
    for cut in cuts:
        gate.hear(pcm[at : at + cut])
        at += cut
    assert gate.heard == has_voice(pcm[:at])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("thank you. " * 9, "thank you."),
        ("so I said no no no no no", "so I said no"),
        ("no, no, no", "no, no, no"),
        ("Ha! ha, HA ha?", "Ha!"),
        ("a b c d " * 4, "a b c d"),
        ("... ... ... ...", "..."),
        ("", ""),
        ("one two three", "one two three"),
        ("谢谢 谢谢 谢谢 谢谢", "谢谢"),
    ],
)
def test_loops_are_cut(text: str, left: str) -> None:
    assert without_loops(text) == left


@given(WORDS)
def test_what_is_left_of_a_loop_is_the_beginning_and_has_none(words: list[str]) -> None:
    text = " ".join(words)
    left = without_loops(text)
    assert left.split() == words[: len(left.split())]
    assert without_loops(left) == left
    assert (left == "") == (not words)


@given(WORDS.filter(bool), st.integers(LOOPS, 9))
def test_what_is_repeated_often_enough_is_never_whole(words: list[str], times: int) -> None:
    assert len(without_loops(" ".join(words * times)).split()) <= len(words)


@given(st.lists(WORDS, max_size=8))
def test_words_that_were_agreed_on_stay(hypotheses: list[list[str]]) -> None:
    agreement, before = Agreement(), ""
    for hypothesis in hypotheses:
        agreed = agreement.take(" ".join(hypothesis))
        assert agreed.split()[: len(before.split())] == before.split()
        assert len(agreed.split()) <= max(len(before.split()), len(hypothesis))
        before = agreed


@given(WORDS)
def test_two_that_are_the_same_agree_on_all(hypothesis: list[str]) -> None:
    agreement = Agreement()
    assert agreement.take(" ".join(hypothesis)) == ""
    assert agreement.take(" ".join(hypothesis)).split() == hypothesis


def test_punctuation_and_capitals_are_no_disagreement() -> None:
    agreement = Agreement()
    assert agreement.take("well I") == ""
    assert agreement.take("Well, I think") == "Well, I"
    assert agreement.take("Well. I thought") == "Well, I"


@pytest.mark.parametrize(
    ("no_speech", "sure", "invented"),
    [(0.9, -2.0, True), (0.9, -0.3, False), (0.1, -2.0, False), (None, -2.0, False), (0.9, None, False)],
)
def test_a_model_that_doubts_both_is_not_believed(no_speech: float | None, sure: float | None, invented: bool) -> None:
    assert is_invented(no_speech, sure) is invented
    assert (
        trusted(Recognition("Hi.", no_speech=no_speech, confidence=sure), Clip((bytes(32_000),))).text == ""
    ) is invented


def test_nobody_says_so_much() -> None:
    assert not is_too_much("a b c", 0.1)
    assert is_too_much("word " * 13, 1)
    assert trusted(Recognition(" ".join(map(str, range(20)))), Clip((bytes(32_000),))).text == ""


def test_the_times_of_words_that_were_cut_go_with_them() -> None:
    words = tuple(Word("no", at, at + 1) for at in range(6))
    assert trusted(Recognition("no no no no no no", words=words), Clip((bytes(64_000),))).words == words[:1]
