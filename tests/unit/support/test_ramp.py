"""The checker of a ramp finds what is missing, doubled or out of order."""

import numpy as np
import pytest

from tests.support.ramp import assert_exact, at_rate

RAMP = list(range(16_000)) * 2


def pcm(samples: list[int]) -> bytes:
    return np.asarray(samples, "<i2").tobytes()


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_a_whole_reply_is_exact_at_every_rate_and_a_part_only_where_it_may_be(rate_hz: int) -> None:
    received = at_rate(RAMP, rate_hz)
    assert_exact(received, RAMP, rate_hz)
    assert_exact(received[:10_000], RAMP, rate_hz, whole=False)
    with pytest.raises(AssertionError, match="samples are missing"):
        assert_exact(received[:10_000], RAMP, rate_hz)


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (RAMP[:500] + RAMP[700:], "200 samples are missing"),
        (RAMP[:500] + RAMP[400:], "100 samples came twice"),
        (RAMP[:500] + RAMP[600:900] + RAMP[500:600] + RAMP[900:], "100 samples are missing"),
        (RAMP[:500] + [30_000] * 100, "it goes on nowhere"),
        ([*RAMP, 7], "1 samples after the last one"),
    ],
)
def test_a_fault_is_named(samples: list[int], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        assert_exact(pcm(samples), RAMP)
