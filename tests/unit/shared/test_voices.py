"""The requirements on recordings of cloned voices, and the errors for those that do not meet them."""

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audio.voices import (
    Floats,
    VoiceInfo,
    advice,
    check_name,
    check_recording,
    check_text,
    cloned_voice,
    make_voice,
)

TEXT = "The birch canoe slid on the smooth planks, and sank."
RATE_HZ = 24_000


def hum(seconds: float, *, level: float = 0.1, rate_hz: int = RATE_HZ) -> Floats:
    """A tone with this RMS level."""
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    return (level * 2**0.5 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32)


def test_a_good_recording_becomes_a_voice_with_its_samples() -> None:
    samples = hum(4)
    voice = make_voice("ann", f"  {TEXT}\n", RATE_HZ, samples)
    assert (voice.name, voice.info.text, voice.info.rate_hz, voice.info.seconds) == ("ann", TEXT, RATE_HZ, 4.0)
    assert voice.samples().dtype == np.float32
    np.testing.assert_allclose(voice.samples(), samples, atol=1e-4)


@pytest.mark.parametrize("name", ["a", "0", "ann", "ann-2_b", "a" * 64])
def test_valid_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", "Ann", "-a", "_a", "a b", "a/b", "../a", "a.json", "ä", "a" * 65, "a\n", "a+b", "a\0"]
)
def test_invalid_names(name: str) -> None:
    with pytest.raises(ValueError, match="a voice cannot be called"):
        check_name(name)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "reason"),
    [
        (hum(0.9), RATE_HZ, r"lasts 0\.9 s: a voice needs 1 to 30 s, best 3 to 12"),
        (hum(0), RATE_HZ, "lasts 0.0 s"),
        (hum(30.1), RATE_HZ, "lasts 30.1 s"),
        (hum(4, rate_hz=8000), 8000, "has 8000 Hz: a voice needs at least 16000 Hz"),
        (np.zeros(4 * RATE_HZ, np.float32), RATE_HZ, "silent"),
        (np.full(4 * RATE_HZ, 0.5, np.float32), RATE_HZ, "silent"),  # a DC offset is silence
        (hum(4, level=0.003), RATE_HZ, r"too quiet \(-50 dBFS, at least -40 are needed"),
        (np.clip(hum(4, level=2), -1, 1), RATE_HZ, "clipped"),
        (np.where(np.arange(4 * RATE_HZ) == 7, np.nan, hum(4)), RATE_HZ, "infinite or NaN"),
        (np.where(np.arange(4 * RATE_HZ) == 7, np.inf, hum(4)), RATE_HZ, "infinite or NaN"),
    ],
)
def test_a_bad_recording_is_rejected_with_the_reason(samples: Floats, rate_hz: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_recording(samples, rate_hz)


def test_a_single_click_is_not_clipping() -> None:
    samples = hum(4)
    samples[:50] = 1.0
    check_recording(samples, RATE_HZ)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing"),
        (" . \n", "missing"),
        ("Hi.", "a text of 3 characters does not belong to 4.0 s"),
        ("x" * 161, "a text of 161"),
    ],
)
def test_a_text_that_does_not_fit_the_recording_is_rejected(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_text(text, 4.0)


def test_the_digest_covers_all_fields() -> None:
    pcm = b"\0\1" * 100
    voices = [
        cloned_voice("a", "b", 1, pcm),
        cloned_voice("a", "c", 1, pcm),
        cloned_voice("b", "b", 1, pcm),
        cloned_voice("a", "b", 2, pcm),
        cloned_voice("a", "b", 1, pcm[:-2]),
    ]
    assert len({voice.info.digest for voice in voices}) == len(voices)
    assert cloned_voice("a", "b", 1, pcm) == voices[0]


def test_voice_info_round_trips() -> None:
    info = make_voice("ann", TEXT, RATE_HZ, hum(4)).info
    assert VoiceInfo.unpack(info.pack()) == info


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        msgpack.packb([1, 2]),
        msgpack.packb({"name": "ann"}),
        msgpack.packb({"name": "ann", "text": "x", "rate_hz": "1", "samples": 1, "digest": "d"}),
        msgpack.packb({"name": "ann", "text": "x", "rate_hz": True, "samples": 1, "digest": "d"}),
        msgpack.packb({"name": "ann", "text": "x", "rate_hz": 0, "samples": 1, "digest": "d"}),
    ],
)
def test_invalid_bytes_are_rejected(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a cloned voice"):
        VoiceInfo.unpack(packed)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_value_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a cloned voice"):
        VoiceInfo.unpack(packed)


def test_advice_is_given_outside_the_best_lengths() -> None:
    assert advice(3) == advice(12) == ""
    assert "3 to 12 s" in advice(2.9)
    assert "3 to 12 s" in advice(12.1)
