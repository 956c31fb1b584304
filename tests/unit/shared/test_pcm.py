"""G.711 compared with `audioop`, the resampler compared with libsoxr's best quality."""

import warnings
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.audio.pcm import Law, Resampler, decode_law, encode_law

LAWS: tuple[Law, ...] = ("ulaw", "alaw")
RATES = [
    (8000, 16000),
    (24000, 16000),
    (48000, 16000),
    (16000, 8000),
    (16000, 24000),
    (24000, 8000),
    (8000, 24000),
    (22050, 16000),
    (22050, 8000),
    (22050, 24000),
    (22050, 48000),
]
pcm16 = st.binary(max_size=4000).map(lambda data: data[: len(data) & ~1])


@pytest.mark.parametrize("law", LAWS)
def test_every_code_and_sample_agrees_with_audioop(law: Law) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop: Any = pytest.importorskip("audioop", reason="the standard library has no audioop from 3.13 on")
    samples = np.arange(65536, dtype="<u2").tobytes()
    codes = bytes(range(256))
    assert decode_law(law, codes) == getattr(audioop, f"{law}2lin")(codes, 2)
    assert encode_law(law, samples) == getattr(audioop, f"lin2{law}")(samples, 2)


@pytest.mark.parametrize("law", LAWS)
@given(pcm=pcm16)
def test_encoding_is_idempotent(law: Law, pcm: bytes) -> None:
    once = decode_law(law, encode_law(law, pcm))
    assert decode_law(law, encode_law(law, once)) == once


@pytest.mark.parametrize("law", LAWS)
@given(pcm=pcm16)
def test_the_error_is_below_one_quantisation_step(law: Law, pcm: bytes) -> None:
    before = np.frombuffer(pcm, "<i2").astype(int)
    after = np.frombuffer(decode_law(law, encode_law(law, pcm)), "<i2").astype(int)
    assert np.all(np.abs(after - before) <= np.maximum(np.abs(before) // 16, 16) + 4)


@pytest.mark.parametrize("law", LAWS)
def test_an_odd_number_of_bytes_is_an_error(law: Law) -> None:
    with pytest.raises(ValueError, match="multiple of element size"):
        encode_law(law, b"\0\0\0")
    with pytest.raises(ValueError, match="multiple of element size"):
        Resampler(8000, 16000).process(b"\0")


def noise(rate_hz: int, top_hz: float, seconds: float = 1.0) -> NDArray[np.int16]:
    """Noise, band-limited to `top_hz`."""
    count = int(rate_hz * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(count))
    spectrum[np.fft.rfftfreq(count, 1 / rate_hz) > top_hz] = 0
    wave = np.fft.irfft(spectrum, count)
    scaled: NDArray[np.int16] = (wave / np.abs(wave).max() * 20000).astype(np.int16)
    return scaled


def level_db(wave: NDArray[Any]) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(wave.astype(float) ** 2)) + 1e-9))


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_the_output_agrees_with_libsoxr(from_hz: int, to_hz: int) -> None:
    wave = noise(from_hz, 0.3 * min(from_hz, to_hz))
    resampler = Resampler(from_hz, to_hz)
    ours = np.frombuffer(resampler.process(wave.tobytes()) + resampler.flush(), "<i2").astype(float)
    theirs = soxr.resample(wave, from_hz, to_hz, "VHQ").astype(float)
    assert len(ours) == -(-len(wave) * to_hz // from_hz)
    inner = slice(to_hz // 20, min(len(ours), len(theirs)) - to_hz // 20)
    assert level_db(ours[inner] - theirs[inner]) < level_db(theirs[inner]) - 70


@pytest.mark.parametrize(("from_hz", "to_hz"), [rates for rates in RATES if rates[1] < rates[0]])
def test_frequencies_above_the_new_nyquist_limit_are_removed(from_hz: int, to_hz: int) -> None:
    tone = (10000 * np.sin(2 * np.pi * 0.51 * to_hz / from_hz * np.arange(from_hz // 2))).astype(np.int16)
    out = np.frombuffer(Resampler(from_hz, to_hz).process(tone.tobytes()), "<i2")
    assert level_db(out[200:]) < level_db(tone) - 70


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_the_delay_is_at_most_five_milliseconds(from_hz: int, to_hz: int) -> None:
    resampler, chunk = Resampler(from_hz, to_hz), from_hz // 50
    given_samples = 0
    for number in range(1, 30):
        given_samples += len(resampler.process(bytes(2 * chunk))) // 2
        assert number * chunk / from_hz - given_samples / to_hz < 0.005


@given(
    rates=st.sampled_from(RATES),
    pcm=pcm16,
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
def test_the_output_does_not_depend_on_how_the_input_is_cut(
    rates: tuple[int, int], pcm: bytes, cuts: list[int]
) -> None:
    whole = Resampler(*rates)
    expected = whole.process(pcm) + whole.flush()
    pieces = Resampler(*rates)
    got, start = b"", 0
    for cut in [*sorted(2 * cut for cut in cuts), len(pcm)]:
        got += pieces.process(pcm[start:cut])
        start = max(start, cut)
    got += pieces.flush()
    difference = np.frombuffer(got, "<i2").astype(int) - np.frombuffer(expected, "<i2")
    # Float sums in another order may round differently.
    assert len(got) == len(expected)
    assert np.all(np.abs(difference) <= 1)


def test_after_a_flush_a_new_stream_begins() -> None:
    wave = noise(24000, 6000, 0.1).tobytes()
    resampler = Resampler(24000, 16000)
    first = resampler.process(wave) + resampler.flush()
    assert resampler.process(wave) + resampler.flush() == first


def test_equal_rates_return_the_input_itself() -> None:
    pcm = bytes(640)
    resampler = Resampler(16000, 16000)
    assert resampler.process(pcm) is pcm
    assert resampler.flush() == b""


def test_full_scale_is_clipped_and_not_wrapped() -> None:
    square = np.where(np.arange(4800) // 24 % 2, 32767, -32768).astype(np.int16)
    out = np.frombuffer(Resampler(48000, 16000).process(square.tobytes()), "<i2")
    assert out.max() == 32767
    assert out.min() == -32768
    half = soxr.resample(square // 2, 48000, 16000, "VHQ")[: len(out)]
    plateau = np.abs(half) > 8000  # if it wrapped, the overshoot at an edge would have the wrong sign
    assert np.array_equal(np.sign(out[plateau]), np.sign(half[plateau]))
