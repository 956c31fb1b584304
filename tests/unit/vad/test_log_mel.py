"""The features of Smart Turn are those that its model was trained with."""

import numpy as np
import pytest

from services.vad.endpointing.log_mel import BANDS, HOP, log_mel
from shared.protocol.session import RATE_HZ
from tests.support.sounds import noise, voice

SECONDS = 8


@pytest.mark.models
@pytest.mark.parametrize("sound", ["voice", "quiet voice", "noise", "end", "silence"])
def test_they_equal_those_of_transformers(sound: str) -> None:
    from transformers import WhisperFeatureExtractor

    samples = np.zeros(SECONDS * RATE_HZ, np.float32)
    pcm = {"noise": noise(SECONDS, 0.1), "silence": b""}.get(sound, voice(SECONDS))
    heard = np.frombuffer(pcm, "<i2").astype(np.float32)[: len(samples)] / 32_768
    if sound == "quiet voice":
        heard /= 100
    if sound == "end":
        heard = heard[: len(heard) // 3]
    samples[len(samples) - len(heard) :] = heard
    extractor = WhisperFeatureExtractor(chunk_length=SECONDS)
    expected = extractor(samples, sampling_rate=RATE_HZ, return_tensors="np", do_normalize=True)["input_features"][0]
    found = log_mel(samples)
    assert found.shape == expected.shape == (BANDS, SECONDS * RATE_HZ // HOP)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_tone_is_in_the_band_of_its_pitch_at_its_time() -> None:
    """80 mel bands every 10 ms; a tone is in the band of its pitch, and the audio is at the right end."""
    seconds = np.arange(2 * RATE_HZ) / RATE_HZ
    samples = np.zeros(8 * RATE_HZ, np.float32)
    samples[-len(seconds) :] = np.sin(2 * np.pi * 1000 * seconds)
    features = log_mel(samples)
    assert features.shape == (80, 800)
    loudest = features[:, 700].argmax()
    assert 24 <= loudest <= 27  # on Slaney's mel scale 1 kHz is 15 and 8 kHz is 45.2
    assert features[loudest, 700] > features[loudest, 100] + 0.5
