"""Guards against hallucinated text, and stable partial transcripts."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.asr.engines.guards import (
    LOOPS,
    VoiceGate,
    has_voice,
    is_murmur,
    is_no_speech,
    is_too_fast,
    streamed_without_hallucinations,
    without_hallucinations,
    without_loops,
)
from services.asr.engines.local_agreement import LocalAgreement
from services.asr.engines.model import Recognition
from shared.protocol.session import Word
from tests.support.sounds import hum, noise, voice

WORDS = st.lists(st.sampled_from(["yes", "no", "Oh,", "oh", "well.", "…", "好"]), max_size=24)


@pytest.mark.parametrize(
    "pcm", [b"", bytes(3), bytes(64_000), noise(2, 0.001), noise(2, 0.1), noise(2, 0.3), hum(2), voice(0.06)]
)
def test_silence_noise_and_hum_are_not_a_voice(pcm: bytes) -> None:
    assert not has_voice(pcm)


@pytest.mark.parametrize("silence_s", [0, 1, 3])
def test_a_voice_is_detected_after_silence(silence_s: int) -> None:
    assert has_voice(bytes(32_000 * silence_s) + voice(0.5))


@pytest.mark.parametrize("word", ["yes", "no", "six", "hi", "stop", "okay", "shush"])
def test_the_shortest_answers_are_detected_in_noise_too(speech_pcm: Callable[[str, int], bytes], word: str) -> None:
    quiet = np.frombuffer(speech_pcm(word, 16_000), "<i2").astype(np.float32)
    assert has_voice(quiet.astype("<i2").tobytes())
    assert has_voice((quiet * 0.05).astype("<i2").tobytes())  # 26 dB softer
    street = np.random.default_rng(1).normal(0, quiet.std() / 2, len(quiet))
    assert has_voice((quiet + street).clip(-32_768, 32_767).astype("<i2").tobytes())


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=40))
def test_the_voice_gate_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    pcm = bytes(6_400) + voice(0.3, seed=1)
    gate, at = VoiceGate(), 0
    for cut in cuts:
        gate.add(pcm[at : at + cut])
        at += cut
    assert gate.is_open == has_voice(pcm[:at])


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
def test_without_loops_keeps_the_beginning_and_leaves_no_loop(words: list[str]) -> None:
    text = " ".join(words)
    left = without_loops(text)
    assert left.split() == words[: len(left.split())]
    assert without_loops(left) == left
    assert (left == "") == (not words)


@given(WORDS.filter(bool), st.integers(LOOPS, 9))
def test_frequent_repetitions_are_always_cut(words: list[str], times: int) -> None:
    assert len(without_loops(" ".join(words * times)).split()) <= len(words)


@given(st.lists(WORDS, max_size=8))
def test_agreed_words_stay(hypotheses: list[list[str]]) -> None:
    agreement, before = LocalAgreement(), ""
    for hypothesis in hypotheses:
        agreed = agreement.add(" ".join(hypothesis))
        assert agreed.split()[: len(before.split())] == before.split()
        assert len(agreed.split()) <= max(len(before.split()), len(hypothesis))
        before = agreed


@given(WORDS)
def test_equal_hypotheses_agree_on_all_words(hypothesis: list[str]) -> None:
    agreement = LocalAgreement()
    assert agreement.add(" ".join(hypothesis)) == ""
    assert agreement.add(" ".join(hypothesis)).split() == hypothesis


def test_punctuation_and_capitals_are_ignored() -> None:
    agreement = LocalAgreement()
    assert agreement.add("well I") == ""
    assert agreement.add("Well, I think") == "Well, I"
    assert agreement.add("Well. I thought") == "Well, I"


@pytest.mark.parametrize(
    ("no_speech", "confidence", "rejected"),
    [(0.9, -2.0, True), (0.9, -0.3, False), (0.1, -2.0, False), (None, -2.0, False), (0.9, None, False)],
)
def test_a_text_is_rejected_if_the_model_reports_no_speech_and_low_confidence(
    no_speech: float | None, confidence: float | None, rejected: bool
) -> None:
    assert is_no_speech(no_speech, confidence) is rejected
    recognition = Recognition("Hi.", no_speech=no_speech, confidence=confidence)
    assert (without_hallucinations(recognition, 1.0).text == "") is rejected


def test_a_text_that_is_too_long_for_its_audio_is_rejected() -> None:
    assert not is_too_fast("a b c", 0.1)
    assert is_too_fast("word " * 13, 1)
    assert without_hallucinations(Recognition(" ".join(map(str, range(20)))), 1.0).text == ""


@pytest.mark.parametrize("text", [".", " . . .", "…"])
def test_a_text_without_a_letter_is_rejected(text: str) -> None:
    assert without_hallucinations(Recognition(text), 3.0).text == ""
    assert without_hallucinations(Recognition(text + " 10"), 3.0).text


def test_cut_words_lose_their_timestamps() -> None:
    words = tuple(Word("no", at, at + 1) for at in range(6))
    assert without_hallucinations(Recognition("no no no no no no", words=words), 2.0).words == words[:1]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("No, no, no, no. Not this one.", "No, no, no, no. Not this one."),
        ("Thank you. Thank you, thank you, thank you! Thank", "Thank you."),
        ("a b c d e f g h i j k l m n o p q r s t u v w x y z", ""),
        ("", ""),
    ],
)
def test_a_streamed_loop_is_cut_only_at_the_end(text: str, kept: str) -> None:
    assert streamed_without_hallucinations(text, 2.0) == kept


@pytest.mark.parametrize(
    ("seconds", "confidence", "murmur"),
    [(0.4, -1.6, True), (0.4, -0.4, False), (1.2, -1.6, False), (0.4, None, False)],
)
def test_a_short_voice_with_an_unsure_text_is_a_murmur(seconds: float, confidence: float | None, murmur: bool) -> None:
    assert is_murmur(seconds, confidence) is murmur
