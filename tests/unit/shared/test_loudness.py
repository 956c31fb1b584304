"""All voices get the same level, whole or in slices, without clicks, pumping or clipping."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.audio.loudness import (
    LEVEL_DBFS,
    MAX_GAIN_DB,
    MAX_VOICES,
    PEAK,
    RAMP_MS,
    WINDOW_S,
    Floats,
    Leveller,
    level,
    level_dbfs,
)

RATE = 24_000
LOUDEST = int(PEAK * 32_768)


def tone(ms: int, amplitude: float = 0.3) -> Floats:
    return (amplitude * np.sin(np.arange(RATE * ms // 1000) * 2 * np.pi * 220 / RATE)).astype(np.float32)


def voice(dbfs: float, ms: int = 1000, seed: int = 0) -> Floats:
    """Syllables and pauses at this active level, limited by int16."""
    samples = RATE * ms // 1000
    syllables = np.clip(np.sin(np.arange(samples) * 2 * np.pi * 4 / RATE + 1), 0, 1)
    wave: Floats = (np.random.default_rng(seed).normal(0, 1, samples) * syllables).astype(np.float32)
    return wave * np.float32(10 ** ((dbfs - level_dbfs(wave, RATE)) / 20))


def pcm(wave: Any) -> bytes:
    return bytes(np.clip(np.rint(wave * 32_768), -32_768, 32_767).astype("<i2").tobytes())


def wave_of(data: bytes) -> Floats:
    wave: Floats = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)
    return wave


def spoken(leveller: Leveller, name: str, said: bytes, cuts: Sequence[int] = ()) -> bytes:
    """Level one sentence in slices of these lengths, in samples."""
    out, place = b"", 0
    with leveller.sentence(name) as sentence:
        for cut in [*cuts, len(said) // 2]:
            piece = said[2 * place : 2 * (place + cut)]
            place += cut
            levelled = sentence.feed(piece)
            assert len(levelled) == len(piece)
            out += levelled
    return out


CUTS = st.lists(st.integers(1, 4800), max_size=30)

# ---- whole


@pytest.mark.parametrize("amplitude", [0.03, 0.1, 0.9])
def test_loud_and_soft_waves_get_the_same_level(amplitude: float) -> None:
    assert level_dbfs(level(tone(500, amplitude), RATE), RATE) == pytest.approx(LEVEL_DBFS, abs=0.1)


def test_nearly_silent_audio_is_not_amplified_to_noise() -> None:
    hiss = np.random.default_rng(1).normal(0, 1e-4, RATE).astype(np.float32)
    assert np.abs(level(hiss, RATE)).max() < 0.01


@pytest.mark.parametrize("samples", [0, 1, 239, RATE])
def test_silence_has_no_level(samples: int) -> None:
    silence = np.zeros(samples, np.float32)
    assert level_dbfs(silence, RATE) == -120
    assert not level(silence, RATE).any()


# ---- in slices


@given(st.floats(-35, -10), st.floats(-35, -10), st.integers(1000, 2000), CUTS)
def test_from_its_second_sentence_on_every_voice_is_equally_loud(
    first_dbfs: float, second_dbfs: float, ms: int, cuts: list[int]
) -> None:
    leveller = Leveller(RATE)
    for name, dbfs in (("a", first_dbfs), ("b", second_dbfs)):
        spoken(leveller, name, pcm(voice(dbfs, ms)), cuts)
    for seed, (name, dbfs) in enumerate((("b", second_dbfs), ("a", first_dbfs), ("b", second_dbfs)), 1):
        out = spoken(leveller, name, pcm(voice(dbfs, 1000, seed)), cuts)
        assert level_dbfs(wave_of(out), RATE) == pytest.approx(LEVEL_DBFS, abs=1.5)


@given(
    st.floats(-60, -1),
    arrays(np.int16, st.integers(0, 20_000), elements=st.integers(-32_768, 32_767), fill=st.just(32_767)),
    CUTS,
)
def test_no_sample_exceeds_the_peak_and_none_is_lost(dbfs: float, samples: Any, cuts: list[int]) -> None:
    leveller = Leveller(RATE)
    leveller.learn("a", np.full(100, 10 ** (dbfs / 10)))
    said = samples.astype("<i2").tobytes()
    out = spoken(leveller, "a", said, cuts)
    assert len(out) == len(said)
    assert np.abs(np.frombuffer(out, "<i2").astype(int)).max(initial=0) <= LOUDEST


@given(st.floats(-60, -1), st.integers(0, 20_000), CUTS)
def test_silence_stays_silence(dbfs: float, samples: int, cuts: list[int]) -> None:
    leveller = Leveller(RATE)
    leveller.learn("a", np.full(100, 10 ** (dbfs / 10)))
    assert spoken(leveller, "a", bytes(2 * samples), cuts) == bytes(2 * samples)


@given(st.floats(-35, -10), CUTS)
def test_the_gain_is_constant_within_a_sentence_for_any_slices(dbfs: float, cuts: list[int]) -> None:
    wholes, sliced = Leveller(RATE), Leveller(RATE)
    for seed, loudness in enumerate((dbfs, dbfs + 6, dbfs - 6)):
        said = pcm(voice(loudness, 700, seed))
        gain = 10 ** (sliced.gain_db("a") / 20)
        if np.abs(wave_of(said)).max() * gain > PEAK:
            return
        out = spoken(sliced, "a", said, cuts)
        assert out == spoken(wholes, "a", said)
        assert np.abs(wave_of(out) - wave_of(said) * gain).max() < 1 / 32_768


@given(st.integers(0, 9000), st.floats(0.08, 1.0), CUTS)
def test_a_peak_lowers_the_gain_by_a_ramp_until_the_sentence_ends(place: int, height: float, cuts: list[int]) -> None:
    """A constant signal, so that the output shows the gain of each sample."""
    said = np.full(9600, 0.08)
    said[place : place + 100] = height
    leveller = Leveller(RATE)
    leveller.learn("a", np.full(100, 10**-3.8))
    out = np.frombuffer(spoken(leveller, "a", pcm(said), cuts), "<i2").astype(float)
    gains = out / np.frombuffer(pcm(said), "<i2")
    before = 10 ** (MAX_GAIN_DB / 20)
    whole = np.abs(out) < LOUDEST - 1  # not clipped
    falls = -np.diff(gains)[whole[1:] & whole[:-1]]
    assert falls.min(initial=0) >= -0.001
    assert falls.max(initial=0) <= before * 1000 / RAMP_MS / RATE + 0.001
    assert gains[-1] == pytest.approx(min(before, PEAK / height), rel=0.001)
    assert (~whole[: place + 100]).sum() <= 100
    assert (~whole[place + 100 :]).sum() == 0


def test_the_ramp_lasts_until_the_peak() -> None:
    leveller = Leveller(RATE)
    leveller.learn("a", np.full(100, 10**-3.8))
    said = np.repeat((0.1, 0.8), 2400)
    gains = wave_of(spoken(leveller, "a", pcm(said))) / said
    before, after = 10 ** (MAX_GAIN_DB / 20), PEAK / 0.8
    assert gains[2400:] == pytest.approx(after, rel=0.001)
    assert gains[:2400] == pytest.approx(np.linspace(before, after, 2400), abs=0.01)


def test_a_new_voice_gets_the_median_gain_of_the_others() -> None:
    leveller = Leveller(RATE)
    assert leveller.gain_db("a") == 0
    for name, dbfs in (("a", -30), ("b", -28), ("c", -10)):
        spoken(leveller, name, pcm(voice(dbfs)))
    assert leveller.gain_db("new") == pytest.approx(8, abs=0.1)
    spoken(leveller, "new", pcm(voice(-14)))
    assert leveller.gain_db("new") == pytest.approx(-6, abs=0.1)
    assert leveller.gain_db("a") == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("said", [b"", bytes(48_000), pcm(voice(-70)), pcm(tone(290)), pcm(tone(5))])
def test_silent_and_short_sentences_are_not_learnt(said: bytes) -> None:
    leveller = Leveller(RATE)
    assert spoken(leveller, "a", said) == said
    assert leveller.gain_db("a") == 0
    spoken(leveller, "a", pcm(tone(310)))
    assert leveller.gain_db("a") != 0


def test_pauses_do_not_change_the_level() -> None:
    leveller = Leveller(RATE)
    spoken(leveller, "a", bytes(96_000) + pcm(voice(-26)) + bytes(96_000))
    assert leveller.gain_db("a") == pytest.approx(6, abs=0.1)


def test_the_gain_of_a_very_soft_voice_is_limited() -> None:
    leveller = Leveller(RATE)
    spoken(leveller, "a", pcm(voice(-50)))
    assert leveller.gain_db("a") == MAX_GAIN_DB


def test_an_incomplete_sentence_is_learnt() -> None:
    leveller = Leveller(RATE)
    sentence = leveller.sentence("a")
    with suppress(TimeoutError), sentence:
        sentence.feed(pcm(voice(-30)))
        raise TimeoutError
    assert leveller.gain_db("a") == pytest.approx(10, abs=0.1)


def test_concurrent_sentences_keep_their_gains() -> None:
    leveller = Leveller(RATE)
    said = pcm(voice(-30))
    with leveller.sentence("a") as first:
        assert first.feed(said) == said
        spoken(leveller, "a", said)
        assert first.feed(said) == said
    assert leveller.gain_db("a") == pytest.approx(10, abs=0.1)


def test_only_the_latest_speech_counts_and_memory_is_bounded() -> None:
    leveller = Leveller(RATE)
    for dbfs in (-12, -30):
        for _ in range(round(WINDOW_S) + 2):
            leveller.learn("a", np.full(100, 10 ** (dbfs / 10)))
    assert leveller.gain_db("a") == pytest.approx(10, abs=0.1)
    for number in range(MAX_VOICES):
        leveller.learn(str(number), np.full(100, 0.001))
    assert len(leveller._voices) == MAX_VOICES
    assert "a" not in leveller._voices
    with leveller.sentence("long") as sentence:
        for _ in range(200):
            sentence.feed(pcm(voice(-25)))
    assert len(leveller._voices["long"]) <= WINDOW_S * 100


def test_half_a_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="multiple of element size"), Leveller(RATE).sentence("a") as sentence:
        sentence.feed(b"abc")
