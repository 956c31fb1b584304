"""WebRTC's detector with the noise floor finds speech from onset to end, and ignores steady noise."""

import wave
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import webrtcvad

from services.vad.engine import WINDOW_BYTES, WINDOW_MS, WINDOW_SAMPLES
from services.vad.engines.webrtc import MODE, WebRtcDetector
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

Signal = npt.NDArray[np.float64]
START_WINDOWS = 5  # consecutive windows of speech that begin a turn
NOISES = ("white", "pink", "brown", "hum50", "hum60", "fan")
TEXT = "Hello there, how are you doing today?"


def noise(kind: str, seconds: float, level_db: float, seed: int = 0) -> Signal:
    """Steady noise with an RMS of `level_db` relative to full scale."""
    count = int(seconds * RATE_HZ)
    random, times = np.random.default_rng(seed), np.arange(count) / RATE_HZ
    spectrum = np.fft.rfft(random.standard_normal(count))
    hertz = np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 20)
    if kind.startswith("hum"):
        base = float(kind.removeprefix("hum"))
        signal = sum(np.sin(2 * np.pi * base * k * times + k) / k for k in (1, 2, 3, 5, 7))
        signal = signal + 0.01 * random.standard_normal(count)
    elif kind == "fan":
        signal = np.fft.irfft(spectrum * hertz**-0.65, count)
        signal = signal / signal.std() * (1 + 0.1 * np.sin(2 * np.pi * 1.5 * times))
        signal = signal + 0.3 * np.sin(2 * np.pi * 120 * times) + 0.2 * np.sin(2 * np.pi * 240 * times)
    else:
        slope = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
        signal = np.fft.irfft(spectrum * hertz**-slope, count)
    scaled: Signal = signal / np.sqrt(np.mean(signal**2)) * 10 ** (level_db / 20)
    return scaled


def silence(seconds: float) -> Signal:
    return np.zeros(int(seconds * RATE_HZ))


def signal_of(pcm: bytes) -> Signal:
    return np.frombuffer(pcm, "<i2") / 32768


def pcm_of(signal: Signal) -> bytes:
    return (np.clip(signal, -1, 1) * 32767).astype("<i2").tobytes()


def windows_of(pcm: bytes) -> list[bytes]:
    return [pcm[end - WINDOW_BYTES : end] for end in range(WINDOW_BYTES, len(pcm) + 1, WINDOW_BYTES)]


def probabilities(signal: Signal) -> npt.NDArray[np.float64]:
    stream = WebRtcDetector(Settings()).open()
    return np.array([stream.probability(window) for window in windows_of(pcm_of(signal))])


def starts(values: npt.NDArray[np.float64]) -> list[int]:
    """Return the windows at which a turn would begin."""
    run, found = 0, []
    for index, value in enumerate(values):
        run = run + 1 if value >= 0.5 else 0
        if run == START_WINDOWS:
            found.append(index - START_WINDOWS + 1)
    return found


def levels(signal: Signal, step: int) -> Signal:
    """Return the energy of each window in dB, of the `step`-th difference of its samples."""
    windows = signal[: len(signal) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)
    found: Signal = 10 * np.log10((np.diff(windows, step, axis=1) ** 2).mean(axis=1) + 1e-12)
    return found


def edges(clean: Signal, speech: Signal | None, range_db: float, steps: Iterable[int]) -> tuple[int, int]:
    """Return the first window of speech and one past the last.

    Windows of speech are within `range_db` of the loudest, and above the background noise of `speech`.
    """
    active = np.zeros(len(clean) // WINDOW_SAMPLES, bool)
    for step in steps:
        room_db = -90.0 if speech is None else float(np.percentile(levels(speech, step), 8)) + 10
        loud = levels(clean, step)
        active |= loud > max(loud.max() - range_db, room_db)
    found = np.flatnonzero(active)
    return int(found[0]), int(found[-1]) + 1


def check_edges(clean: Signal, speech: Signal | None = None) -> None:
    found = probabilities(clean)
    # The first difference removes the rumble of breath, which the detector may take for speech or not.
    begin, end = edges(clean, speech, 20, steps=(1,))
    _, fading = edges(clean, speech, 32, steps=(0, 1))
    last = int(np.flatnonzero(found >= 0.5)[-1]) + 1
    assert (starts(found)[0] - begin) * WINDOW_MS <= 100
    assert (end - last) * WINDOW_MS <= 60
    assert (last - fading) * WINDOW_MS <= 60


@pytest.mark.parametrize("level_db", [-60, -40, -20])
@pytest.mark.parametrize("kind", NOISES)
def test_steady_noise_from_the_start_is_not_speech(kind: str, level_db: float) -> None:
    assert probabilities(noise(kind, 5, level_db)).max() < 0.5


@pytest.mark.parametrize("before", ["digital silence", "a quiet room"])
@pytest.mark.parametrize("level_db", [-60, -40, -20])
@pytest.mark.parametrize("kind", NOISES)
def test_noise_that_sets_in_does_not_begin_a_turn(kind: str, level_db: float, before: str) -> None:
    quiet = silence(2.007) if before == "digital silence" else noise("white", 2.007, -70, seed=1)
    found = probabilities(np.concatenate([quiet, noise(kind, 5, level_db)]))
    assert starts(found) == []
    assert (found >= 0.5).sum() * WINDOW_MS <= 200


def test_silence_is_not_speech() -> None:
    assert probabilities(silence(3)).max() == 0.0


@pytest.mark.parametrize("peak_db", [-1, -20, -35])
@pytest.mark.parametrize("text", [TEXT, "Yes.", "Seven of clubs, please."])
def test_speech_is_found_from_onset_to_end(speech_pcm: Callable[[str, int], bytes], text: str, peak_db: float) -> None:
    speech = signal_of(speech_pcm(text, RATE_HZ))
    clean = np.concatenate([silence(1.005), speech / np.abs(speech).max() * 10 ** (peak_db / 20), silence(1)])
    check_edges(clean)


@pytest.mark.parametrize("kind", ["white", "pink", "hum50", "fan"])
def test_speech_over_noise_is_found_and_the_noise_is_not(speech_pcm: Callable[[str, int], bytes], kind: str) -> None:
    speech = signal_of(speech_pcm(TEXT, RATE_HZ))
    clean = np.concatenate([silence(2), speech, silence(2)])
    found = probabilities(clean + noise(kind, len(clean) / RATE_HZ, -45))
    begin, end = 2 * RATE_HZ // WINDOW_SAMPLES, len(found) - 2 * RATE_HZ // WINDOW_SAMPLES
    assert begin - 1 <= starts(found)[0] <= begin + 5
    assert found[begin:end].mean() > 0.6
    assert found[: begin - 1].max() < 0.5
    assert found[end + 3 :].max() < 0.5


@pytest.mark.parametrize("kind", NOISES)
def test_noise_that_sets_in_while_someone_speaks_does_not_prolong_the_speech(
    speech_pcm: Callable[[str, int], bytes], kind: str
) -> None:
    speech = signal_of(speech_pcm(TEXT, RATE_HZ))
    signal = np.concatenate([silence(1), speech, silence(3)])
    begin = RATE_HZ + len(speech) // 2
    signal[begin:] += noise(kind, (len(signal) - begin) / RATE_HZ, -30)
    end = (RATE_HZ + len(speech)) // WINDOW_SAMPLES
    assert probabilities(signal)[end + 400 // WINDOW_MS :].max() < 0.5


def test_a_window_that_webrtc_rejects_is_not_speech() -> None:
    random = np.random.default_rng(4)
    clicks = noise("white", 5, -60) + (random.random(5 * RATE_HZ) < 0.0004) * random.uniform(-0.5, 0.5, 5 * RATE_HZ)
    vad = webrtcvad.Vad(MODE)
    refused = np.array([not vad.is_speech(window, RATE_HZ) for window in windows_of(pcm_of(clicks))])
    found = probabilities(clicks)
    assert found[refused].max() < 0.5
    assert found.max() >= 0.4  # so there was something to refuse


def test_the_probability_grows_with_the_level_above_the_noise_floor(speech_pcm: Callable[[str, int], bytes]) -> None:
    speech = np.concatenate([silence(1), signal_of(speech_pcm(TEXT, RATE_HZ)), silence(1)])
    room = noise("white", len(speech) / RATE_HZ, -65)
    means = [probabilities(speech * 10 ** (gain_db / 20) + room).mean() for gain_db in (-40, -30, -20, 0)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.3


def test_a_window_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="640 bytes"):
        WebRtcDetector(Settings()).open().probability(bytes(320))


async def test_sessions_do_not_affect_each_other(speech_pcm: Callable[[str, int], bytes]) -> None:
    detector = WebRtcDetector(Settings())
    await detector.load()
    speech, other = detector.open(), detector.open()
    signal = np.concatenate([silence(0.4), signal_of(speech_pcm(TEXT, RATE_HZ))])
    hiss = windows_of(pcm_of(noise("white", len(signal) / RATE_HZ, -20)))
    found = []
    for window, other_window in zip(windows_of(pcm_of(signal)), hiss, strict=True):
        other.probability(other_window)
        found.append(speech.probability(window))
    assert found == list(probabilities(signal))
    await detector.close()


def test_human_speech_is_found_from_onset_to_end(clips: Path) -> None:
    for path in sorted(clips.glob("*.wav")):
        with wave.open(str(path)) as clip:
            speech = signal_of(clip.readframes(clip.getnframes()))
        clean = np.concatenate([silence(1), speech, silence(1)])
        check_edges(clean, speech)
