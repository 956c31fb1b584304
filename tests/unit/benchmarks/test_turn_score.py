"""How well turns were taken, by hand-made calls: each figure once at work."""

from dataclasses import asdict

from benchmarks.turn_taking.run import compare_results
from benchmarks.turn_taking.score import Score, Seen, score, turns_of
from deploy.client.performance import Sound
from deploy.client.scene import Cue


def say(start_s: float, end_s: float, *, when: str = "at", into_reply: bool = False) -> Sound:
    return Sound(Cue(when, 0, "say", "x"), start_s, end_s, into_reply)


def cough(start_s: float, *, into_reply: bool = True) -> Sound:
    return Sound(Cue("reply", 0, "cough"), start_s, start_s + 0.2, into_reply)


def seen(*events: tuple[float, str]) -> list[Seen]:
    return [Seen(at_s, what) for at_s, what in events]


def test_what_is_said_after_a_pause_is_the_same_turn() -> None:
    turns = turns_of([say(1, 2), say(2.5, 3, when="pause"), cough(4), say(5, 6)])
    assert [(turn.start_s, turn.end_s) for turn in turns] == [(1, 3), (5, 6)]


def test_a_turn_that_is_taken_as_it_should_be() -> None:
    found = score([say(1, 2)], seen((2.5, "commit")))
    assert found == Score(turns=1, commit_ms=[500.0])


def test_a_commit_inside_a_turn_is_a_cut_off() -> None:
    found = score([say(1, 2), say(2.7, 3, when="pause")], seen((2.5, "commit"), (3.5, "commit")))
    assert (found.cut_offs, found.commit_ms, found.false_turns) == (1, [500.0], 0)


def test_a_late_commit_and_a_missing_one() -> None:
    found = score([say(1, 2), say(6, 7)], seen((4, "commit")))
    assert (found.late_commits, found.missed_turns, found.commit_ms) == (1, 1, [2000.0])


def test_a_commit_of_nothing_is_a_false_turn() -> None:
    assert score([cough(1, into_reply=False)], seen((1.7, "commit"))).false_turns == 1
    assert score([say(1, 2)], seen((2.5, "commit"), (20, "commit"))).false_turns == 1


def test_an_interruption_and_how_soon_it_was_silent() -> None:
    barge = say(5, 6, when="reply", into_reply=True)
    found = score([say(1, 2), barge], seen((2.5, "commit"), (5.1, "pause"), (5.6, "interrupt"), (6.5, "commit")))
    assert (found.interruptions, found.missed_barge_ins) == (1, 0)
    assert [round(ms) for ms in found.silence_ms] == [100]


def test_an_interruption_that_was_missed_or_forgiven_too_soon() -> None:
    barge = say(5, 6, when="reply", into_reply=True)
    assert score([barge], seen((6.5, "commit"))).missed_barge_ins == 1
    found = score([barge], seen((5.1, "pause"), (5.5, "resume"), (6.5, "commit")))
    assert (found.missed_barge_ins, found.wrong_resumes) == (1, 1)


def test_a_cough_that_ended_a_reply_and_one_that_did_not() -> None:
    assert score([cough(5)], seen((5.1, "pause"), (5.4, "interrupt"))).false_barge_ins == 1
    found = score([cough(5)], seen((5.1, "pause"), (5.4, "resume")))
    assert (found.noises, found.false_barge_ins, found.right_resumes) == (1, 0, 1)
    following = score([cough(5), say(5.5, 6, when="reply", into_reply=True)], seen((5.1, "pause"), (5.8, "interrupt")))
    assert following.false_barge_ins == 0  # that was the word, not the cough


def test_scores_add_up() -> None:
    whole = Score()
    for one in (score([say(1, 2)], seen((2.5, "commit"))), score([say(1, 2)], [])):
        whole.add(one)
    assert (whole.turns, whole.missed_turns, whole.commit_ms) == (2, 1, [500.0])


def test_nothing_said_is_nothing_to_score() -> None:
    assert score([], []) == Score()


def test_one_fault_more_is_a_regression_and_a_slightly_later_commit_is_not() -> None:
    def result(**change: object) -> dict[str, object]:
        figures = {**asdict(Score(turns=2, cut_offs=1, commit_ms=[500.0, 520.0])), **change}
        return {"rows": [{"detector": "webrtc", "endpointing": "fixed", "scene": "all", **figures}]}

    assert not compare_results(result(), result(commit_ms=[510.0, 530.0])).regressions
    worse = compare_results(result(), result(cut_offs=2, commit_ms=[600.0, 620.0])).regressions
    assert {row.key[1] for row in worse} == {"cut offs", "commit p50, ms"}
