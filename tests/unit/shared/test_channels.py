"""Mixing channels: none is lost, and none costs level."""

import numpy as np
import pytest

from shared.audio.channels import mixed

SPEECH = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
OTHER = np.random.default_rng(2).normal(0, 0.1, 16_000).astype(np.float32)
SILENCE = np.zeros_like(SPEECH)


def stereo(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, axis=1)


@pytest.mark.parametrize(
    "channels",
    [
        (SPEECH,),
        (SPEECH, SPEECH),
        (SPEECH, -SPEECH),
        (SPEECH, SILENCE),
        (SILENCE, SPEECH),
        (SPEECH, -0.9 * SPEECH),
        (SPEECH, SILENCE, 0.001 * OTHER),
    ],
)
def test_one_signal_keeps_its_level_in_whatever_channels_it_is(channels: tuple[np.ndarray, ...]) -> None:
    assert np.array_equal(mixed(stereo(*channels)), SPEECH)


def test_different_channels_are_averaged() -> None:
    assert np.allclose(mixed(stereo(SPEECH, OTHER)), (SPEECH + OTHER) / 2)


def test_silence_and_nothing_are_mixed_too() -> None:
    assert not mixed(stereo(SILENCE, SILENCE)).any()
    assert mixed(np.zeros((0, 2), np.float32)).shape == (0,)
