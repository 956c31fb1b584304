"""What a kill costs a turn of the chaos run."""

import pytest

from benchmarks.chaos.turn import Turn, usual_s


def test_a_turn_knows_its_state_and_what_delayed_it() -> None:
    turn = Turn(began_s=10, paused_s=11, resumed_s=11.3, ended_s=12, transcribed_s=12.6, over_s=16)
    turn.arrivals = [13.0, 13.05, 13.1, 14.5, 14.55]
    states = [turn.state(at_s) for at_s in (9, 10.5, 11.1, 11.5, 12.1, 12.8, 13.02, 16)]
    assert states == [None, "listening", "paused", "listening", "transcribing", "generating", "speaking", None]
    assert usual_s([turn], 99) == 1.0
    assert turn.delay_s(10.5, 99, usual_s=1.0) == 0
    assert turn.delay_s(10.5, 99, usual_s=0.5) == 0.5
    assert turn.delay_s(13.2, 99, usual_s=1.0) == pytest.approx(1.3)
    assert turn.delay_s(14.52, 99, usual_s=1.0) == 0
    turn.interrupting_s = 14.52
    assert turn.state(14.53) == "being interrupted"
