"""The embedded recogniser: final and partial transcripts, and independence of earlier utterances."""

import asyncio
import wave
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from services.asr.engine import Utterance
from services.asr.engines.sphinx import SphinxRecognizer
from shared.protocol.session import RATE_HZ
from shared.settings import Settings
from tests.support.waiting import HANG_S

CHUNK_BYTES = 2 * RATE_HZ // 10
TEXT = "hello world"
LONGER = "please tell me the way to the station and the time of the next train"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recognizer() -> AsyncIterator[SphinxRecognizer]:
    recognizer = SphinxRecognizer(Settings(asr_slots=2))
    await recognizer.load()
    yield recognizer
    await recognizer.close()


pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


def room(ms: int, seed: int = 0) -> bytes:
    return (np.random.default_rng(seed).standard_normal(RATE_HZ * ms // 1000) * 30).astype("<i2").tobytes()


async def feed(utterance: Utterance, pcm: bytes) -> list[str]:
    partials = [await utterance.accept(pcm[at : at + CHUNK_BYTES]) for at in range(0, len(pcm), CHUNK_BYTES)]
    return [partial for partial in partials if partial is not None]


async def transcribe(recognizer: SphinxRecognizer, pcm: bytes) -> str:
    utterance = await recognizer.open("en-US")
    try:
        await feed(utterance, pcm)
        return (await utterance.finish()).text
    finally:
        utterance.close()


@pytest.fixture
def speech(speech_pcm: Callable[[str, int], bytes]) -> Callable[[str], bytes]:
    return lambda text: room(300) + speech_pcm(text, RATE_HZ) + room(160, seed=1)


async def test_it_recognises_a_phrase(recognizer: SphinxRecognizer, speech: Callable[[str], bytes]) -> None:
    assert await transcribe(recognizer, speech(TEXT)) == TEXT


async def test_partial_transcripts_come_while_it_is_spoken(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes]
) -> None:
    pcm = speech(LONGER)
    utterance = await recognizer.open("en")
    partials = await feed(utterance, pcm)
    final = await utterance.finish()
    utterance.close()
    assert final.language == "en"
    assert len(set(partials)) > 3
    assert all(before != after for before, after in pairwise(partials))
    assert len(partials) <= len(pcm) / 2 / RATE_HZ / 0.2
    assert not set("<>[]()") & set(final.text + "".join(partials))


async def test_the_result_does_not_depend_on_earlier_utterances(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes]
) -> None:
    quiet = (np.frombuffer(speech(TEXT), "<i2") // 8).astype("<i2").tobytes()
    hiss = (np.random.default_rng(2).standard_normal(RATE_HZ) * 3000).astype("<i2").tobytes()
    first = await transcribe(recognizer, speech(LONGER))
    for other in (quiet, hiss, speech(TEXT)):
        await transcribe(recognizer, other)
    assert await transcribe(recognizer, speech(LONGER)) == first != ""


async def test_the_level_does_not_matter_much(recognizer: SphinxRecognizer, speech: Callable[[str], bytes]) -> None:
    quiet = (np.frombuffer(speech(TEXT), "<i2") // 8).astype("<i2").tobytes()
    assert await transcribe(recognizer, quiet) == TEXT


async def test_it_continues_after_finish_with_all_audio(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes]
) -> None:
    utterance = await recognizer.open("en")
    await feed(utterance, speech(TEXT))
    first = await utterance.finish()
    assert await utterance.finish() == first
    await feed(utterance, speech(TEXT)[2 * RATE_HZ * 300 // 1000 :])
    whole = await utterance.finish()
    utterance.close()
    assert first.text == TEXT
    assert whole.text.endswith(f" {TEXT}")
    assert len(whole.text.split()) >= 2 * len(TEXT.split())


async def test_a_transcript_at_a_pause_does_not_change_the_one_at_the_end(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes]
) -> None:
    pcm = speech(f"{LONGER} {LONGER}")
    second = 2 * RATE_HZ
    assert len(pcm) > 5 * second
    utterance = await recognizer.open("en")
    for begin, end in ((0, 3), (3, 4), (4, 99)):  # the mean was measured for the last time before the first pause
        await feed(utterance, pcm[begin * second : end * second])
        paused = await utterance.finish()
    utterance.close()
    assert paused.text == await transcribe(recognizer, pcm)


@pytest.mark.parametrize("ms", [0, 5, 40, 400, 1200])
async def test_no_words_in_silence(recognizer: SphinxRecognizer, ms: int) -> None:
    assert await transcribe(recognizer, bytes(2 * RATE_HZ * ms // 1000)) == ""


async def test_another_language_is_refused_by_name(recognizer: SphinxRecognizer) -> None:
    with pytest.raises(ValueError, match=r"'de-AT'.*English"):
        await recognizer.open("de-AT")


async def test_open_waits_while_all_decoders_are_busy(recognizer: SphinxRecognizer) -> None:
    held = [await recognizer.open("en") for _ in range(recognizer.slots)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await recognizer.open("en")
    held.pop().close()
    async with asyncio.timeout(HANG_S):
        (await recognizer.open("en")).close()
    held.pop().close()


async def test_concurrent_utterances_do_not_mix(recognizer: SphinxRecognizer, speech: Callable[[str], bytes]) -> None:
    texts = await asyncio.gather(*(transcribe(recognizer, speech(text)) for text in (TEXT, LONGER, TEXT)))
    assert texts[0] == texts[2] == TEXT != texts[1]


async def test_the_event_loop_runs_while_it_decodes(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes]
) -> None:
    turns = 0
    utterance = await recognizer.open("en")
    await utterance.accept(speech(LONGER)[: 2 * RATE_HZ - CHUNK_BYTES])
    decoding = asyncio.ensure_future(utterance.accept(speech(LONGER)))
    while not decoding.done():
        await asyncio.sleep(0.001)
        turns += 1
    utterance.close()
    assert turns > 5  # none where it decodes on the event loop


async def test_a_cancelled_utterance_returns_its_decoder_intact(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes]
) -> None:
    for _ in range(2 * recognizer.slots):
        utterance = await recognizer.open("en")
        work = asyncio.ensure_future(utterance.accept(speech(LONGER)))
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        utterance.close()
    assert await transcribe(recognizer, speech(TEXT)) == TEXT


async def test_it_recognises_human_speech(recognizer: SphinxRecognizer, clips: Path) -> None:
    for name, text in (("cards-001.wav", "ten of clubs"), ("cards-003.wav", "seven of clubs")):
        with wave.open(str(clips / name)) as clip:
            pcm = clip.readframes(clip.getnframes())
        assert await transcribe(recognizer, pcm) == text
        assert await transcribe(recognizer, room(300) + pcm + room(160, seed=1)) == text


@pytest.mark.parametrize(
    ("text", "murmur"), [("hmm", True), ("sure", True), ("stop", False), ("wait", False), ("hold on", False)]
)
async def test_a_murmur_is_told_from_other_short_words_by_its_sound(
    recognizer: SphinxRecognizer, speech: Callable[[str], bytes], text: str, murmur: bool
) -> None:
    utterance = await recognizer.open("en")
    await feed(utterance, speech(text))
    first = await utterance.finish()
    again = await utterance.finish()
    utterance.close()
    assert first.murmur is again.murmur is (murmur and bool(first.text))


async def test_a_long_utterance_is_no_murmur(recognizer: SphinxRecognizer, speech: Callable[[str], bytes]) -> None:
    utterance = await recognizer.open("en")
    await feed(utterance, speech(LONGER))
    assert not (await utterance.finish()).murmur
    utterance.close()
