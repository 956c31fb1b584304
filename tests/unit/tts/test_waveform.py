"""Post-processing of a model's waveform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.waveform import SLICE_MS, Trimmer, Waveform, active_span, pause_ms, shape, slices
from shared.audio.loudness import LEVEL_DBFS, level_dbfs
from shared.protocol.session import Word

RATE = 24_000


def tone(ms: int, amplitude: float = 0.3) -> Waveform:
    return (amplitude * np.sin(np.arange(RATE * ms // 1000) * 2 * np.pi * 220 / RATE)).astype(np.float32)


def silence(ms: int) -> Waveform:
    return np.zeros(RATE * ms // 1000, np.float32)


def test_silence_is_trimmed_and_a_pause_appended() -> None:
    wave = np.concatenate((silence(300), tone(500), silence(400)))
    shaped, words = shape(wave, RATE, 200, [Word("so", RATE * 3 // 10, RATE * 8 // 10)])
    assert len(shaped) / RATE == pytest.approx(0.5 + 0.02 + 0.2, abs=0.011)
    assert words[0].start / RATE == pytest.approx(0.02, abs=0.011)
    assert words[0].end / RATE == pytest.approx(0.52, abs=0.011)


@pytest.mark.parametrize("amplitude", [0.03, 0.9])
def test_the_loudness_is_levelled(amplitude: float) -> None:
    shaped, _ = shape(tone(500, amplitude), RATE, 50)
    assert level_dbfs(shaped, RATE) == pytest.approx(LEVEL_DBFS, abs=0.3)


def test_edges_are_faded() -> None:
    shaped, _ = shape(tone(300), RATE, 50)
    assert abs(shaped[0]) < 1e-3
    assert np.abs(np.diff(shaped)).max() < 0.05


@given(st.lists(st.integers(1, RATE // 2), max_size=6))
def test_chunks_are_trimmed_as_the_whole_waveform_is(cuts: list[int]) -> None:
    wave = np.concatenate((silence(150), tone(700), silence(60), tone(200), silence(250)))
    words = [Word("one", RATE * 16 // 100, RATE * 80 // 100), Word("two", RATE * 92 // 100, RATE * 110 // 100)]
    whole, moved = Trimmer(RATE, words).feed(wave, last=True)

    trimmer, found, times, sent = Trimmer(RATE, words), [], [], 0
    chunks = np.split(wave, [cut for cut in np.cumsum(cuts) if cut < RATE * 11 // 10])
    for number, chunk in enumerate(chunks, 1):
        trimmed, started = trimmer.feed(chunk, last=number == len(chunks))
        times += [Word(word.text, word.start + sent, word.end + sent) for word in started]
        assert all(word.start < len(trimmed) for word in started)
        sent += len(trimmed)
        found.append(trimmed)
    # Silence is found in blocks of 10 ms of a chunk, and what was trimmed with an earlier chunk cannot be faded in.
    assert sent == pytest.approx(len(whole), abs=4 * RATE // 100)
    assert [word.text for word in times] == ["one", "two"]
    assert [word.start for word in times] == pytest.approx([word.start for word in moved], abs=3 * RATE // 100)
    assert all(word.end <= sent for word in times)


@given(st.integers(0, 3 * RATE // 10), st.integers(0, 1000))
def test_slices_are_complete(samples: int, before: int) -> None:
    wave = np.linspace(-1, 1, samples, dtype=np.float32)
    words = [Word("a", samples // 3, samples // 2)] if samples else []
    found = list(slices(wave, RATE, words, before))
    assert sum(len(one.pcm) for one in found) == 2 * samples
    assert all(len(one.pcm) <= 2 * RATE * SLICE_MS // 1000 for one in found)
    assert [word for one in found for word in one.words] == [
        Word("a", before + word.start, before + word.end) for word in words
    ]


@pytest.mark.parametrize("wave", [silence(0), silence(100), np.full(RATE, np.nan, np.float32)])
def test_silence_is_accepted(wave: Waveform) -> None:
    assert active_span(np.nan_to_num(wave), RATE) == (0, 0)
    shaped, _ = shape(np.nan_to_num(wave), RATE, 40, [Word("a", 5, 10)])
    assert not shaped.any()


@pytest.mark.parametrize(("text", "ms"), [("So.", 200), ('"So!"', 200), ("so,", 90), ("so", 40), ("है।", 200), ("", 40)])
def test_pauses_depend_on_the_punctuation(text: str, ms: int) -> None:
    assert pause_ms(text) == ms
