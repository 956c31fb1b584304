"""When a process that does not answer counts as hung."""

from collections.abc import Iterator

from deploy.local.hang import GAP_S, Silence


def looks(silence: Silence, *answers: bool, pid: int = 1, at_s: float = 100.0) -> Iterator[bool]:
    """The results of one look a second."""
    return (silence.is_hung(pid, answers=one, now_s=at_s + number) for number, one in enumerate(answers))


def test_silence_counts_only_after_an_answer_of_the_same_process_and_without_a_gap() -> None:
    assert list(looks(Silence(3), False, False, False, False, False)) == [False] * 5  # it still loads
    silence = Silence(3)
    assert list(looks(silence, True, False, False, False, False)) == [False, False, False, True, True]
    assert list(looks(silence, False, False, False, False, pid=2, at_s=105)) == [False] * 4  # its successor loads
    silence = Silence(3)
    assert list(looks(silence, True, False)) == [False, False]
    assert list(looks(silence, False, False, False, False, at_s=102 + GAP_S)) == [False, False, False, True]  # a stall
