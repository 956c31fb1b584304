"""The embedded ear hears speech from its onset to its end, and no noise that stays as it is."""

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
START_WINDOWS = 5  # speech for so long begins a turn
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


def starts(heard: npt.NDArray[np.float64]) -> list[int]:
    """The windows at which a turn would begin."""
    run, found = 0, []
    for index, value in enumerate(heard):
        run = run + 1 if value >= 0.5 else 0
        if run == START_WINDOWS:
            found.append(index - START_WINDOWS + 1)
    return found


def levels(signal: Signal, step: int) -> Signal:
    """Of each window, in dB: the energy of the `step`-th difference of its samples."""
    windows = signal[: len(signal) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)
    found: Signal = 10 * np.log10((np.diff(windows, step, axis=1) ** 2).mean(axis=1) + 1e-12)
    return found


def edges(clean: Signal, speech: Signal | None, range_db: float, steps: Iterable[int]) -> tuple[int, int]:
    """First window and one past the last that stand out: by so much of the loudest, and from the room of `speech`."""
    active = np.zeros(len(clean) // WINDOW_SAMPLES, bool)
    for step in steps:
        room_db = -90.0 if speech is None else float(np.percentile(levels(speech, step), 8)) + 10
        loud = levels(clean, step)
        active |= loud > max(loud.max() - range_db, room_db)
    found = np.flatnonzero(active)
    return int(found[0]), int(found[-1]) + 1


def check_edges(clean: Signal, speech: Signal | None = None) -> None:
    heard = probabilities(clean)
    # The difference leaves out the rumble of breath, which need not be heard but may.
    begin, end = edges(clean, speech, 20, steps=(1,))
    _, fading = edges(clean, speech, 32, steps=(0, 1))
    last = int(np.flatnonzero(heard >= 0.5)[-1]) + 1
    assert (starts(heard)[0] - begin) * WINDOW_MS <= 100
    assert (end - last) * WINDOW_MS <= 60
    assert (last - fading) * WINDOW_MS <= 60


@pytest.mark.parametrize("level_db", [-60, -40, -20])
@pytest.mark.parametrize("kind", NOISES)
def test_steady_noise_from_the_start_is_no_speech(kind: str, level_db: float) -> None:
    assert probabilities(noise(kind, 5, level_db)).max() < 0.5


@pytest.mark.parametrize("before", ["digital silence", "a quiet room"])
@pytest.mark.parametrize("level_db", [-60, -40, -20])
@pytest.mark.parametrize("kind", NOISES)
def test_noise_that_sets_in_begins_no_turn(kind: str, level_db: float, before: str) -> None:
    quiet = silence(2.007) if before == "digital silence" else noise("white", 2.007, -70, seed=1)
    heard = probabilities(np.concatenate([quiet, noise(kind, 5, level_db)]))
    assert starts(heard) == []
    assert (heard >= 0.5).sum() * WINDOW_MS <= 200


def test_silence_is_no_speech() -> None:
    assert probabilities(silence(3)).max() == 0.0


@pytest.mark.parametrize("peak_db", [-1, -20, -35])
@pytest.mark.parametrize("text", [TEXT, "Yes.", "Seven of clubs, please."])
def test_speech_is_heard_from_onset_to_end(speech_pcm: Callable[[str, int], bytes], text: str, peak_db: float) -> None:
    speech = signal_of(speech_pcm(text, RATE_HZ))
    clean = np.concatenate([silence(1.005), speech / np.abs(speech).max() * 10 ** (peak_db / 20), silence(1)])
    check_edges(clean)


@pytest.mark.parametrize("kind", ["white", "pink", "hum50", "fan"])
def test_speech_over_noise_is_heard_and_the_noise_is_not(speech_pcm: Callable[[str, int], bytes], kind: str) -> None:
    speech = signal_of(speech_pcm(TEXT, RATE_HZ))
    clean = np.concatenate([silence(2), speech, silence(2)])
    heard = probabilities(clean + noise(kind, len(clean) / RATE_HZ, -45))
    begin, end = 2 * RATE_HZ // WINDOW_SAMPLES, len(heard) - 2 * RATE_HZ // WINDOW_SAMPLES
    assert begin - 1 <= starts(heard)[0] <= begin + 5
    assert heard[begin:end].mean() > 0.6
    assert heard[: begin - 1].max() < 0.5
    assert heard[end + 3 :].max() < 0.5


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


def test_what_webrtc_takes_for_no_speech_is_none() -> None:
    random = np.random.default_rng(4)
    clicks = noise("white", 5, -60) + (random.random(5 * RATE_HZ) < 0.0004) * random.uniform(-0.5, 0.5, 5 * RATE_HZ)
    vad = webrtcvad.Vad(MODE)
    refused = np.array([not vad.is_speech(window, RATE_HZ) for window in windows_of(pcm_of(clicks))])
    heard = probabilities(clicks)
    assert heard[refused].max() < 0.5
    assert heard.max() >= 0.4  # so there was something to refuse


def test_the_probability_is_graded_by_the_distance_to_the_floor(speech_pcm: Callable[[str, int], bytes]) -> None:
    speech = np.concatenate([silence(1), signal_of(speech_pcm(TEXT, RATE_HZ)), silence(1)])
    room = noise("white", len(speech) / RATE_HZ, -65)
    means = [probabilities(speech * 10 ** (gain_db / 20) + room).mean() for gain_db in (-40, -30, -20, 0)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.3


def test_a_window_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="640 bytes"):
        WebRtcDetector(Settings()).open().probability(bytes(320))


async def test_sessions_do_not_hear_each_other(speech_pcm: Callable[[str, int], bytes]) -> None:
    detector = WebRtcDetector(Settings())
    await detector.load()
    speech, other = detector.open(), detector.open()
    signal = np.concatenate([silence(0.4), signal_of(speech_pcm(TEXT, RATE_HZ))])
    hiss = windows_of(pcm_of(noise("white", len(signal) / RATE_HZ, -20)))
    heard = []
    for window, other_window in zip(windows_of(pcm_of(signal)), hiss, strict=True):
        other.probability(other_window)
        heard.append(speech.probability(window))
    assert heard == list(probabilities(signal))
    await detector.close()


def test_human_speech_is_heard_from_onset_to_end(clips: Path) -> None:
    for path in sorted(clips.glob("*.wav")):
        with wave.open(str(path)) as clip:
            speech = signal_of(clip.readframes(clip.getnframes()))
        clean = np.concatenate([silence(1), speech, silence(1)])
        check_edges(clean, speech)
