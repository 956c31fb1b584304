"""The estimate of the broker's clock: its maximum error, and its recovery after a clock was set."""

from hypothesis import given
from hypothesis import strategies as st

from shared.bus.broker_clock import SAMPLES, ClockOffset

ways = st.tuples(st.floats(0, 0.2), st.floats(0, 0.2))


@given(st.floats(-1e4, 1e4), st.lists(ways, min_size=1, max_size=30))
def test_the_error_is_at_most_half_of_the_fastest_round_trip(
    offset_s: float, answers: list[tuple[float, float]]
) -> None:
    clock = ClockOffset()
    now_s = 1_700_000_000.0
    for there_s, back_s in answers:
        clock.learn(now_s, now_s + there_s + back_s, now_s + there_s - offset_s)
        now_s += 5
    quickest_s = min(there_s + back_s for there_s, back_s in answers[-SAMPLES:])
    assert abs(clock.offset_s - offset_s) <= quickest_s / 2 + 1e-6


def test_ages_use_the_brokers_clock_and_are_never_negative() -> None:
    clock = ClockOffset()
    clock.learn(100.0, 100.002, 40.001)  # a minute behind this host
    assert abs(clock.offset_s - 60.0) < 1e-9
    assert abs(clock.age_s(40_000, 100.5) - 0.5) < 1e-9
    assert clock.age_s(41_000, 100.5) == 0.0


def test_a_clock_that_was_set_back_discards_the_samples() -> None:
    clock = ClockOffset()
    clock.learn(100.0, 100.001, 100.0)
    clock.learn(200.0, 100.0, 150.0)
    clock.learn(300.0, 300.01, 250.005)
    assert abs(clock.offset_s - 50.0) < 1e-6


def test_an_old_fast_reply_is_forgotten() -> None:
    clock = ClockOffset()
    clock.learn(0.0, 0.0001, 0.0)
    for number in range(SAMPLES):
        clock.learn(10.0 + number, 10.01 + number, 9.005 + number)
    assert abs(clock.offset_s - 1.0) < 1e-6
