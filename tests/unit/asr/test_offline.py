"""Utterances of an offline model: partial and final transcripts, long turns, priorities. The model is scripted."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.asr.engines.model import BYTES_PER_S, Clip, Recognition
from services.asr.engines.offline import WINDOW_S, OfflineUtterance, quietest
from shared.engines.batching import Batcher
from shared.engines.registry import EngineLost
from shared.protocol.session import RATE_HZ, Word
from tests.support.sounds import CHUNK_BYTES, feed, hum, noise, voice
from tests.support.waiting import HANG_S, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Scripted:
    """Recognises a word a second, `w0 w1 …`, by the position of the audio in `speech`. Records its calls."""

    def __init__(self, speech: bytes = b"") -> None:
        self.speech = speech
        self.calls: list[list[Clip]] = []
        self.open = threading.Event()
        self.open.set()
        self.fails: BaseException | None = None

    def answer(self, clips: Sequence[Clip]) -> list[Recognition]:
        self.calls.append(list(clips))
        assert self.open.wait(HANG_S)
        if self.fails is not None:
            raise self.fails
        return [self._recognise(b"".join(clip.pieces), clip) for clip in clips]

    def _recognise(self, pcm: bytes, clip: Clip) -> Recognition:
        first = self.speech.index(pcm) / BYTES_PER_S
        seconds = [at for at in range(100) if first <= at and at + 1 <= first + clip.seconds]
        words = tuple(
            Word(f"w{at}", round((at - first) * RATE_HZ), round((at + 1 - first) * RATE_HZ)) for at in seconds
        )
        return Recognition(" ".join(word.text for word in words), clip.language or "de", words=words)

    def seconds(self) -> list[list[float]]:
        return [[round(clip.seconds, 1) for clip in clips] for clips in self.calls]


class Clock:
    """The time in seconds, which passes only when a test says so: no decoding is slow by itself."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(loop_scope="module")
async def open_utterance(clock: Clock) -> AsyncIterator[Callable[..., OfflineUtterance]]:
    batchers: list[Batcher[Clip, Recognition]] = []

    def opened(model: Scripted, language: str = "en", hints: str = "", share: bool = False) -> OfflineUtterance:
        if not share:
            batchers.append(Batcher("asr", model.answer, most=8, wait_ms=0, timeout_s=10))
        return OfflineUtterance(batchers[-1], language, hints, clock)

    yield opened
    for batcher in batchers:
        await batcher.close()


Open = Callable[..., OfflineUtterance]


async def talk(utterance: OfflineUtterance, pcm: bytes) -> list[str]:
    """Feed the audio in chunks, each after the pending partial decoding is done. Returns the partial transcripts."""
    partials = []
    for at in range(0, len(pcm), CHUNK_BYTES):
        partials += await feed(utterance, pcm[at : at + CHUNK_BYTES])
        pending = utterance._decoding
        await until(lambda pending=pending: pending is None or pending.done())
    return partials


async def test_partial_transcripts_grow_and_the_final_one_is_complete(open_utterance: Open) -> None:
    model = Scripted(voice(5))
    utterance = open_utterance(model, hints="Ada")
    partials = await talk(utterance, model.speech)
    assert partials
    assert all("w0 w1 w2 w3 w4".startswith(partial) for partial in partials)
    assert partials == sorted(partials, key=len)
    transcript = await utterance.finish()
    utterance.close()
    assert (transcript.text, transcript.language) == ("w0 w1 w2 w3 w4", "en")
    assert transcript.words[4] == Word("w4", 4 * RATE_HZ, 5 * RATE_HZ)
    assert all(clip.hints == "Ada" and clip.language == "en" for clips in model.calls for clip in clips)


async def test_it_continues_after_a_final_transcript(open_utterance: Open) -> None:
    model = Scripted(voice(3))
    utterance = open_utterance(model, language="")
    await feed(utterance, model.speech[:BYTES_PER_S])
    first = await utterance.finish()
    asked = len(model.calls)
    assert await utterance.finish() is first
    assert len(model.calls) == asked
    await feed(utterance, model.speech[BYTES_PER_S:])
    whole = await utterance.finish()
    utterance.close()
    assert (first.text, whole.text, whole.language) == ("w0", "w0 w1 w2", "de")


@pytest.mark.parametrize("chunk", [CHUNK_BYTES, 2 * 7_919, 60 * BYTES_PER_S])
async def test_a_long_turn_is_settled_without_losing_audio(open_utterance: Open, chunk: int) -> None:
    model = Scripted(voice(70))
    utterance = open_utterance(model)
    for at in range(0, len(model.speech), chunk):
        await utterance.accept(model.speech[at : at + chunk])
        utterance._cancel_partial()
    transcript = await utterance.finish()
    utterance.close()
    windows = [clip for clips in model.calls for clip in clips]
    assert all(clip.seconds <= WINDOW_S for clip in windows)
    settled: list[bytes] = []
    for clip in windows:  # the settled windows follow one another without a gap
        pcm, before = b"".join(clip.pieces), b"".join(settled[:-1])
        if settled and len(pcm) > len(settled[-1]) and model.speech.startswith(before + pcm):
            settled[-1] = pcm  # the one before was a partial decoding that had begun before it was cancelled
        elif model.speech.startswith(b"".join(settled) + pcm):
            settled.append(pcm)
    assert b"".join(settled) == model.speech
    assert len(settled) >= 3
    # The scripted model loses a word on a cut, the recogniser does not.
    assert len(transcript.text.split()) >= 70 - len(settled)
    for word in transcript.words:
        assert abs(word.start - int(word.text[1:]) * RATE_HZ) <= 1


async def test_a_window_without_a_voice_is_not_decoded(open_utterance: Open) -> None:
    model = Scripted()
    for pcm in (bytes(40 * BYTES_PER_S), noise(31, 0.1), hum(31), b"", bytes(320)):
        utterance = open_utterance(model)
        assert await feed(utterance, pcm) == []
        assert (await utterance.finish()).text == ""
        utterance.close()
    assert model.calls == []


async def test_closing_cancels_the_partial_decoding(open_utterance: Open) -> None:
    model = Scripted(voice(3))
    model.open.clear()
    first, second = open_utterance(model), open_utterance(model, share=True)
    await feed(first, model.speech)
    await until(lambda: len(model.calls) == 1)
    await feed(second, model.speech)
    second.close()
    model.open.set()
    assert (await first.finish()).text == "w0 w1 w2"
    first.close()
    assert [len(clips) for clips in model.calls] == [1, 1]


async def test_a_cancelled_final_transcript_can_be_requested_again(open_utterance: Open) -> None:
    model = Scripted(voice(2))
    utterance = open_utterance(model)
    await feed(utterance, model.speech)
    utterance._cancel_partial()  # it may have all of the audio
    model.open.clear()
    finishing = asyncio.ensure_future(utterance.finish())
    await asyncio.sleep(0.01)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    model.open.set()
    assert (await utterance.finish()).text == "w0 w1"
    utterance.close()


async def test_a_final_transcript_goes_before_partial_ones(open_utterance: Open) -> None:
    model = Scripted(voice(9))
    model.open.clear()
    held = open_utterance(model)
    await feed(held, model.speech[:BYTES_PER_S])
    await until(lambda: len(model.calls) == 1)  # the thread is busy
    waiting = [open_utterance(model, share=True) for _ in range(3)]
    for number, utterance in enumerate(waiting):
        await feed(utterance, model.speech[: (number + 2) * BYTES_PER_S])
    last = open_utterance(model, share=True)
    finishing = asyncio.ensure_future(feed(last, model.speech[: 8 * BYTES_PER_S]))
    await finishing
    finishing = asyncio.ensure_future(last.finish())
    await asyncio.sleep(0.01)
    model.open.set()
    await finishing
    assert model.seconds()[1] == [8.0]
    await until(lambda: len(model.calls) == 3)
    assert len(model.seconds()[2]) == 3
    for utterance in (held, *waiting, last):
        utterance.close()


async def test_a_slow_model_is_asked_for_fewer_partial_transcripts(open_utterance: Open, clock: Clock) -> None:
    model = Scripted(voice(20))
    model.open.clear()
    utterance = open_utterance(model)
    await feed(utterance, model.speech[:BYTES_PER_S])
    await until(lambda: len(model.calls) == 1)
    clock.now_s = 1.0
    model.open.set()  # decoded within a second: the next decoding may begin 3 s after this one began
    await until(lambda: utterance._took_s == 1.0)
    await talk(utterance, model.speech[BYTES_PER_S : 2 * BYTES_PER_S])
    clock.now_s = 2.9
    await talk(utterance, model.speech[2 * BYTES_PER_S : 3 * BYTES_PER_S])
    assert len(model.calls) == 1
    clock.now_s = 3.0
    await talk(utterance, model.speech[3 * BYTES_PER_S : 4 * BYTES_PER_S])
    assert len(model.calls) > 1
    utterance.close()


async def test_time_without_audio_does_not_count_as_decoding_time(open_utterance: Open, clock: Clock) -> None:
    model = Scripted(voice(2))
    utterance = open_utterance(model)
    await talk(utterance, model.speech[:BYTES_PER_S])
    asked = len(model.calls)
    clock.now_s = 60.0  # no audio arrives
    await talk(utterance, model.speech[BYTES_PER_S:])
    assert len(model.calls) > asked + 1
    utterance.close()


async def test_a_failed_partial_transcript_is_ignored_but_a_lost_device_is_not(open_utterance: Open) -> None:
    model = Scripted(voice(4))
    utterance = open_utterance(model)
    model.fails = ValueError("no")
    assert await talk(utterance, model.speech[:BYTES_PER_S]) == []
    model.fails = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(EngineLost):
        await talk(utterance, model.speech[BYTES_PER_S:])
    utterance.close()


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
async def test_a_window_is_cut_where_it_is_quiet(seed: int, place: float) -> None:
    samples = np.random.default_rng(seed).integers(-3_000, 3_000, round(WINDOW_S * RATE_HZ)).astype(np.int16)
    first, last = 12.0, 25.4
    begin = round((first + place * (last - first)) * RATE_HZ)
    samples[begin : begin + RATE_HZ // 2] //= 100
    cut = quietest(samples)
    assert begin <= cut <= begin + RATE_HZ // 2


SILENCE = np.random.default_rng(1).normal(0, 2, RATE_HZ).astype("<i2").tobytes()
"""A second of a quiet microphone."""


async def speak_and_pause(utterance: OfflineUtterance, model: Scripted, pause_ms: int) -> None:
    """Speak the two seconds of voice in `model.speech`, and then be silent for some of the silence behind them."""
    end = 2 * BYTES_PER_S + pause_ms * BYTES_PER_S // 1000
    for at in range(0, end, CHUNK_BYTES // 5):
        await utterance.accept(model.speech[at : min(end, at + CHUNK_BYTES // 5)])
        decoding = utterance._decoding
        await until(lambda decoding=decoding: decoding is None or decoding.done())


async def test_a_lull_is_decoded_at_once_and_the_final_transcript_is_that_one(open_utterance: Open) -> None:
    model = Scripted(voice(2) + SILENCE)
    utterance = open_utterance(model)
    await speak_and_pause(utterance, model, 300)
    asked = len(model.calls)
    assert 2.1 < model.calls[-1][0].seconds < 2.3
    assert (await utterance.finish()).text == "w0 w1"
    utterance.close()
    assert len(model.calls) == asked


async def test_a_final_transcript_waits_for_the_decoding_of_the_lull(open_utterance: Open) -> None:
    model = Scripted(voice(2) + SILENCE)
    utterance = open_utterance(model)
    await speak_and_pause(utterance, model, 160)
    model.open.clear()
    await feed(utterance, model.speech[2 * BYTES_PER_S + 160 * BYTES_PER_S // 1000 :][:CHUNK_BYTES])
    await until(lambda: model.calls[-1][0].seconds > 2)
    finishing = asyncio.ensure_future(utterance.finish())
    asked = len(model.calls)
    model.open.set()
    assert (await finishing).text == "w0 w1"
    utterance.close()
    assert len(model.calls) == asked


async def test_a_turn_that_ends_within_a_decoding_is_not_decoded_twice(open_utterance: Open) -> None:
    model = Scripted(voice(2))
    utterance = open_utterance(model)
    model.open.clear()
    await utterance.accept(model.speech)  # nothing comes after it: the end of the turn is the end of the audio
    await until(lambda: len(model.calls) == 1)
    finishing = asyncio.ensure_future(utterance.finish())
    await asyncio.sleep(0)
    model.open.set()
    assert (await finishing).text == "w0 w1"
    utterance.close()
    assert len(model.calls) == 1


async def test_words_after_the_lull_are_decoded(open_utterance: Open) -> None:
    model = Scripted(voice(2) + SILENCE + voice(1, seed=5))
    utterance = open_utterance(model)
    await speak_and_pause(utterance, model, 300)
    await feed(utterance, model.speech[2 * BYTES_PER_S + 300 * BYTES_PER_S // 1000 :])
    assert (await utterance.finish()).text == "w0 w1 w2 w3"
    utterance.close()


async def test_a_failed_decoding_of_the_lull_is_made_again(open_utterance: Open) -> None:
    model = Scripted(voice(2) + SILENCE)
    utterance = open_utterance(model)
    await speak_and_pause(utterance, model, 160)
    model.fails = RuntimeError("once")
    await feed(utterance, model.speech[2 * BYTES_PER_S + 160 * BYTES_PER_S // 1000 :][:CHUNK_BYTES])
    decoding = utterance._decoding
    assert decoding is not None
    await until(decoding.done)
    model.fails = None
    assert (await utterance.finish()).text == "w0 w1"
    utterance.close()
