"""The benchmark of the ends of turns: its texts, its figures, and the real stages in virtual time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.speech.speakers import NEURAL, SPEAKERS
from benchmarks.turn_ends.conversation import commits_of
from benchmarks.turn_ends.score import outcome_of, summary
from benchmarks.turn_ends.turns import PLAIN, assign, lines_of, parse_text, read_texts, spoken_turn
from deploy.client.acoustics import CONDITIONS
from services.asr.engines.scripted import ScriptedRecognizer
from shared.protocol.session import RATE_HZ
from shared.settings import Settings
from tests.support.sounds import voice


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768


def test_half_of_at_least_a_hundred_turns_pause_to_think() -> None:
    texts = read_texts()
    thoughtful = [text for text in texts if text.kind != PLAIN]
    assert len(texts) >= 100
    assert 2 * len(thoughtful) == len(texts)
    assert all(not text.pauses_s for text in texts if text.kind == PLAIN)
    assert all(0.6 <= pause_s <= 1.0 for text in thoughtful for pause_s in text.pauses_s)
    assert {text.kind for text in thoughtful} == {"booking", "phone", "date", "list", "clause"}


def test_what_comes_before_a_pause_does_not_end_like_a_sentence() -> None:
    text = parse_text("list", "Milk, |0.6| bread |0.8| and eggs.")
    assert (text.parts, text.pauses_s) == (("Milk,", "bread,", "and eggs."), (0.6, 0.8))


def test_each_speaker_has_turns_of_both_kinds() -> None:
    assigned = assign(read_texts(), [SPEAKERS[name] for name in NEURAL])
    assert len(assigned) == len(read_texts())
    for name in NEURAL:
        kinds = [text.kind == PLAIN for speaker, text in assigned if speaker.name == name]
        assert min(kinds.count(True), kinds.count(False)) >= 5


def test_a_turn_lasts_as_long_as_its_parts_and_pauses() -> None:
    speaker, text = SPEAKERS["joe"], parse_text("list", "Milk |0.5| and eggs.")
    speech = {line: np.ones(RATE_HZ, np.float32) for line in lines_of([(speaker, text)])}
    turn = spoken_turn(speaker, text, speech)
    assert len(turn.samples) == 2.5 * RATE_HZ
    assert turn.text == "Milk, … and eggs."


def test_a_turn_is_cut_late_or_well_ended() -> None:
    def ended(*commits_s: float) -> tuple[float | None, float | None, bool]:
        found = outcome_of("joe", PLAIN, "x", 10, 12, 15, commits_s)
        return found.cut_s, found.wait_ms, found.late

    assert ended(12.5) == (None, 500, False)
    assert ended(11, 12.5) == (1, 500, False)
    assert ended(13.25) == (None, 1250, True)
    assert ended(9, 15.5) == (None, None, True)


def test_the_summary_of_outcomes() -> None:
    outcomes = [outcome_of("joe", PLAIN, "x", 0, 2, 5, commits_s) for commits_s in ([2.25], [1, 2.75], [4], [])]
    assert summary(outcomes) == {
        "turns": 4,
        "cut_percent": 25,
        "late_percent": 50,
        "wait_p50_ms": 750,
        "wait_p95_ms": pytest.approx(1875),
    }
    assert summary([])["wait_p50_ms"] is None


@pytest.mark.parametrize("name", CONDITIONS)
def test_acoustics_keep_the_length_and_repeat(name: str) -> None:
    speech, condition = samples(voice(1)), CONDITIONS[name]
    others = [samples(voice(1, seed=2)), samples(voice(0.5, seed=3))]
    first, again = (condition(speech, others, 7) for _ in range(2))
    assert len(first) == len(speech)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, condition(speech, others, 8))


def test_the_real_stages_commit_each_turn_of_each_microphone() -> None:
    silence = np.zeros(RATE_HZ, np.float32)
    one = np.concatenate([silence, samples(voice(1)), silence, silence])
    two = np.concatenate([silence, samples(voice(1)), silence, samples(voice(1)), silence])
    commits = commits_of([one, two], "webrtc", "fixed", ScriptedRecognizer(Settings()), Settings())
    assert [len(at_s) for at_s in commits] == [1, 2]
    assert commits[0][0] == pytest.approx(2.5, abs=0.1)
    assert commits[1][1] - commits[1][0] == pytest.approx(2, abs=0.1)


def test_texts_are_read_from_any_file(tmp_path: Path) -> None:
    file = tmp_path / "turns.tsv"
    file.write_text("kind\ttext\nplain\tHello.\n")
    assert [text.parts for text in read_texts(file)] == [("Hello.",)]
