"""F5 with a fake network: references, pieces, slices, words, caches and cancelled sentences."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engine import Cloner, Speech
from services.tts.engines.f5 import VOICES_KEPT, F5Synthesizer
from services.tts.engines.f5_inputs import (
    HOP,
    RATE_HZ,
    estimated_words,
    max_bytes,
    piece_frames,
    pieces,
    reference_samples,
    reference_text,
)
from services.tts.engines.f5_model import Reference, load_f5, network_weights
from services.tts.engines.model import Abandoned
from services.tts.engines.waveform import Waveform
from shared.audio.voices import ClonedVoice, cloned_voice, make_voice
from shared.engines.registry import UnknownEngine
from shared.settings import Settings
from tests.support.waiting import until

TEXT = "The birch canoe slid on the smooth planks."


def hum(seconds: float, level: float = 0.1, rate_hz: int = RATE_HZ) -> Waveform:
    return (level * 2**0.5 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def recorded(name: str = "ann", seconds: float = 4.0, rate_hz: int = RATE_HZ, text: str = TEXT) -> ClonedVoice:
    return make_voice(name, text, rate_hz, hum(seconds, rate_hz=rate_hz))


class Network:
    """Returns a tone of the requested length, and records its calls."""

    def __init__(self, own: ClonedVoice | None = None) -> None:
        self.own = own
        self.encoded: list[str] = []
        self.spoken: list[tuple[str, str, int]] = []
        self.stopped: list[str] = []
        self.may_finish = threading.Event()
        self.may_finish.set()
        self.error: Exception | None = None
        self.threads: set[int] = set()

    def encode(self, samples: Waveform, text: str) -> Reference:
        self.threads.add(threading.get_ident())
        self.encoded.append(text)
        return Reference(text, samples, len(samples) // HOP + 1)

    def synthesize(self, reference: Reference, text: str, frames: int, wanted: Callable[[], bool]) -> Waveform:
        self.threads.add(threading.get_ident())
        self.spoken.append((reference.text, text, frames))
        if self.error is not None:
            raise self.error
        while not self.may_finish.wait(0.005):
            if not wanted():
                self.stopped.append(text)
                raise Abandoned
        return hum(frames * HOP / RATE_HZ, 0.3)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def f5(network: Network) -> AsyncIterator[F5Synthesizer]:
    engine = F5Synthesizer(Settings(), lambda settings: network)
    await engine.load()
    yield engine
    network.may_finish.set()
    await engine.close()


async def speak(engine: F5Synthesizer, text: str = TEXT, voice: str = "ann", speed: float = 1.0) -> list[Speech]:
    return [piece async for piece in engine.speak(text, voice=voice, speed=speed, language="en")]


def seconds(speech: list[Speech]) -> float:
    return sum(len(piece.pcm) // 2 for piece in speech) / RATE_HZ


# -- the engine -----------------------------------------------------------------------------------


async def test_a_sentence_is_as_long_as_its_text_in_the_voice_of_the_reference(
    f5: F5Synthesizer, network: Network
) -> None:
    assert isinstance(f5, Cloner)
    f5.learn(recorded())
    speech = await speak(f5, TEXT)
    assert seconds(speech) == pytest.approx(4.2, abs=0.3)  # the reference's text, and the pause after a sentence
    assert all(0 < len(piece.pcm) <= 2 * RATE_HZ // 5 for piece in speech)
    assert np.abs(np.frombuffer(b"".join(piece.pcm for piece in speech), "<i2")).max() > 3000
    assert network.spoken == [(f"{TEXT} ", TEXT, pytest.approx(4 * RATE_HZ / HOP, abs=12))]


async def test_word_times_cover_the_speech(f5: F5Synthesizer) -> None:
    f5.learn(recorded())
    long = f"{TEXT} " * 6
    speech = await speak(f5, long)
    words = [word for piece in speech for word in piece.words]
    assert " ".join(word.text for word in words) == long.strip()
    assert all(word.start <= word.end for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert seconds(speech) * RATE_HZ - 0.3 * RATE_HZ < words[-1].end <= seconds(speech) * RATE_HZ


async def test_speed_is_kept_within_bounds(f5: F5Synthesizer) -> None:
    f5.learn(recorded())
    lengths = [seconds(await speak(f5, TEXT, speed=speed)) for speed in (0.01, 0.5, 1, 2, 100)]
    assert lengths[0] == lengths[1] > 1.8 * lengths[2] > 3.2 * lengths[3]
    assert lengths[3] == lengths[4]


async def test_a_text_without_words_is_silent(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    for text in ("", "  ", "...", "—!"):
        assert await speak(f5, text) == []
    assert network.spoken == []


async def test_the_model_runs_in_one_thread_off_the_event_loop(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    await asyncio.gather(*(speak(f5) for _ in range(4)))
    assert len(network.threads) == 1
    assert threading.get_ident() not in network.threads


async def test_a_reference_is_encoded_once_until_it_changes(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    await speak(f5)
    f5.learn(recorded())
    await speak(f5)
    assert len(network.encoded) == 1
    f5.learn(recorded(text="Something else was said here."))
    await speak(f5)
    assert network.encoded == [f"{TEXT} ", "Something else was said here. "]


async def test_the_least_recently_used_voices_are_dropped(f5: F5Synthesizer, network: Network) -> None:
    voices = [recorded(f"v{number}") for number in range(VOICES_KEPT + 1)]
    for voice in voices:
        f5.learn(voice)
        await speak(f5, voice=voice.name)
    await speak(f5, voice="v1")
    assert len(network.encoded) == VOICES_KEPT + 1
    with pytest.raises(ValueError, match="unknown voice 'v0'"):
        await speak(f5, voice="v0")
    f5.learn(voices[0])
    await speak(f5, voice="v0")
    assert len(network.encoded) == VOICES_KEPT + 2


async def test_without_a_default_voice_a_name_is_required(f5: F5Synthesizer) -> None:
    assert f5.voices() == ()
    with pytest.raises(ValueError, match="parley voices add"):
        await speak(f5, voice="")


async def test_the_example_voice_is_the_default_and_is_warmed_up() -> None:
    network = Network(recorded("nature"))
    f5 = F5Synthesizer(Settings(), lambda settings: network)
    await f5.load()
    assert f5.voices() == ("nature",)
    assert len(network.spoken) == 1
    assert seconds(await speak(f5, voice="")) == seconds(await speak(f5, voice="nature"))
    assert len(network.encoded) == 1
    await f5.close()


async def test_a_sentence_cancelled_in_the_queue_is_not_synthesized(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    await speak(f5)
    network.may_finish.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(speak(f5, "This one is being spoken."))
        await until(lambda: len(network.spoken) == 2)
        second = tasks.create_task(speak(f5, "This one waits for its turn."))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.wait([second])
        network.may_finish.set()
        await asyncio.wait([first])
        last = tasks.create_task(speak(f5, "And this one comes after."))
    assert first.result()
    assert last.result()
    assert [text for _, text, _ in network.spoken[1:]] == ["This one is being spoken.", "And this one comes after."]


async def test_cancelling_a_sentence_stops_the_model_within_the_call(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    network.may_finish.clear()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(speak(f5, "Nobody wants this."))
        await until(lambda: network.spoken)
        running.cancel()
    await until(lambda: network.stopped)
    network.may_finish.set()
    assert await speak(f5)


async def test_closing_a_sentence_skips_its_remaining_pieces(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    speech = f5.speak(f"{TEXT} " * 10, voice="ann", speed=1.0, language="en")
    await anext(speech)
    await speech.aclose()
    await speak(f5)
    assert len(network.spoken) == 2


async def test_an_error_of_the_model_fails_only_that_sentence(f5: F5Synthesizer, network: Network) -> None:
    f5.learn(recorded())
    network.error = RuntimeError("a shape does not fit")
    with pytest.raises(RuntimeError, match="a shape"):
        await speak(f5)
    network.error = None
    assert await speak(f5)


async def test_a_silent_recording_is_an_error_that_names_the_voice(f5: F5Synthesizer) -> None:
    f5.learn(cloned_voice("ann", TEXT, RATE_HZ, bytes(2 * RATE_HZ)))
    with pytest.raises(ValueError, match="the voice 'ann' is silent"):
        await speak(f5)


async def test_a_missing_library_is_named_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(UnknownEngine, match=r"^The f5 engine .*torchaudio.* make install EXTRAS=f5$"):
        await F5Synthesizer(Settings()).load()
    with pytest.raises(UnknownEngine, match=r"^The f5 engine .*torchaudio.* make install EXTRAS=f5$"):
        load_f5(Settings())


def test_a_checkpoint_is_stripped_to_the_network() -> None:
    saved = {
        "ema_model.transformer.norm": 1,
        "initted": 2,
        "step": 3,
        "ema_model.mel_spec.mel_stft.mel_scale.fb": 4,
    }
    assert network_weights(saved) == {"transformer.norm": 1}


# -- the inputs -----------------------------------------------------------------------------------


def test_a_reference_is_trimmed_amplified_and_resampled() -> None:
    quiet = np.concatenate((np.zeros(16_000, np.float32), hum(3, 0.02, 16_000), np.zeros(8_000, np.float32)))
    prepared = reference_samples(make_voice("ann", TEXT, 16_000, quiet))
    assert len(prepared) / RATE_HZ == pytest.approx(3.05, abs=0.03)
    assert np.sqrt(np.mean(prepared**2)) == pytest.approx(0.1, rel=0.01)
    assert not prepared[-RATE_HZ // 25 :].any()
    loud = reference_samples(make_voice("ann", TEXT, RATE_HZ, hum(3, 0.3)))
    assert np.sqrt(np.mean(loud**2)) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("Hello", "Hello. "), ("Hello.", "Hello. "), ("Hello?", "Hello? "), (" Hello… ", "Hello…"), ("你好。", "你好。")],
)
def test_the_transcript_of_a_reference_ends_like_a_sentence(text: str, wanted: str) -> None:
    assert reference_text(text) == wanted


def test_frames_follow_the_authors_formula() -> None:
    assert piece_frames(400, "x" * 50, "y" * 25, 1.0) == 200
    assert piece_frames(400, "x" * 50, "y" * 25, 2.0) == 100
    assert piece_frames(400, "x" * 50, "Yes.", 1.0) == int(400 / 50 * 4 / 0.3)
    assert piece_frames(1, "x" * 500, "y" * 10, 2.0) == 1


@pytest.mark.parametrize(("reference_s", "piece_s"), [(1, 12), (6, 12), (12, 10), (20, 4), (30, 4)])
def test_reference_and_piece_fit_into_the_model(reference_s: int, piece_s: int) -> None:
    transcript = "x" * 15 * reference_s
    frames = reference_s * RATE_HZ // HOP
    size = max_bytes(frames, transcript, 1.0)
    assert piece_frames(frames, transcript, "y" * size, 1.0) * HOP / RATE_HZ == pytest.approx(piece_s, abs=0.1)


def test_texts_are_cut_at_punctuation_if_possible() -> None:
    assert pieces("One two. Three four, five six.", 100) == ["One two. Three four, five six."]
    assert pieces("One two three four. Five six.", 20) == ["One two three four.", "Five six."]
    assert pieces("one two three four, five six", 20) == ["one two three four,", "five six"]
    assert pieces("one two three four five six", 16) == ["one two three", "four five six"]
    assert pieces("x" * 30, 10) == ["x" * 10] * 3
    assert pieces("今天天气很好。我们出去走走。", 24) == ["今天天气很好。", "我们出去走走。"]
    assert pieces("Go. — !", 4) == ["Go."]


@given(st.text(max_size=300), st.integers(20, 80))
def test_no_piece_is_too_long_and_nothing_is_lost(text: str, most: int) -> None:
    found = pieces(text, most)
    assert all(0 < len(piece.encode()) <= most for piece in found)
    if any(character.isalnum() for character in text):
        left = "".join("".join(found).split())
        assert [c for c in left if c.isalnum()] == [c for c in text if c.isalnum()]
    else:
        assert found == []


def test_words_are_separated_by_spaces_or_are_chinese_characters() -> None:
    assert [word.text for word in estimated_words("Hi there, 你好。", 0, 100)] == ["Hi", "there,", "你", "好", "。"]


@given(
    st.text(min_size=1, max_size=100).filter(lambda text: bool(text.split())),
    st.integers(0, 1000),
    st.integers(0, 100_000),
)
def test_word_times_are_contiguous(text: str, start: int, length: int) -> None:
    words = estimated_words(text, start, start + length)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert (words[0].start, words[-1].end) == (start, start + length)
    assert all(one.end == other.start for one, other in pairwise(words))
