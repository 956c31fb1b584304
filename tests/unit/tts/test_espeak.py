"""The embedded synthesizer: audio, word times, voices and cancellation."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest

from services.edge.conversation.playout import Playout
from services.tts.engine import Speech
from services.tts.engines.espeak import QUEUED_SLICES, EspeakSynthesizer
from shared.protocol.frames import VoiceChunk
from shared.settings import Settings
from tests.support.waiting import HANG_S

SENTENCE = "Hello there, my friend. How are you today?"
LONG = "word and more words " * 500


@pytest.fixture
async def voice() -> AsyncIterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(Settings())
    await synthesizer.load()
    yield synthesizer
    await synthesizer.close()


async def speak(
    synthesizer: EspeakSynthesizer, text: str, voice: str = "", speed: float = 1.0, language: str = "en"
) -> list[Speech]:
    return [piece async for piece in synthesizer.speak(text, voice=voice, speed=speed, language=language)]


def samples(slices: list[Speech]) -> int:
    return sum(len(slice_.pcm) // 2 for slice_ in slices)


async def test_a_sentence_is_audible_in_slices_of_at_most_200_ms(voice: EspeakSynthesizer) -> None:
    slices = await speak(voice, SENTENCE)
    assert all(0 < len(slice_.pcm) <= 2 * voice.rate_hz // 5 for slice_ in slices)
    assert 1.5 < samples(slices) / voice.rate_hz < 6
    assert np.abs(np.frombuffer(b"".join(slice_.pcm for slice_ in slices), "<i2")).max() > 3000


async def test_a_long_pause_is_sliced(voice: EspeakSynthesizer) -> None:
    assert max(len(slice_.pcm) for slice_ in await speak(voice, "Hello there.", speed=0.4)) <= 2 * voice.rate_hz // 5


@pytest.mark.parametrize("text", ['"Hello there."', "(Hello there.)", "“Hello there.”", "[Hello there.]"])
async def test_quotation_marks_and_brackets_add_no_silence(voice: EspeakSynthesizer, text: str) -> None:
    plain = samples(await speak(voice, "Hello there."))
    slices = await speak(voice, text)
    assert abs(samples(slices) - plain) < voice.rate_hz // 50
    assert " ".join(word.text for slice_ in slices for word in slice_.words) == text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (SENTENCE, "en"),
        ("How much is 23 < 5 & more?", "en"),
        ('<speak rate="9">[[x]] &amp; "ok"</speak>', "en"),
        ("Café “naïve” — it’s déjà vu.", "fr"),
        ("नमस्ते दुनिया, आप कैसे हैं?", "hi"),
        ("a\x01b\x00c", "en"),
    ],
)
async def test_words_are_those_of_the_text_in_order(voice: EspeakSynthesizer, text: str, language: str) -> None:
    slices = await speak(voice, text, language=language)
    words = [word for slice_ in slices for word in slice_.words]
    printable = "".join(character if character.isprintable() else " " for character in text)
    assert " ".join(word.text for word in words).split() == printable.split()
    assert len(words) > 1
    assert all(word.start <= word.end for word in words)
    assert all(before.end <= after.start for before, after in pairwise(words))
    assert 0 <= samples(slices) - words[-1].end <= 0.25 * voice.rate_hz  # the pause after the sentence
    begin = 0
    for slice_ in slices:
        end = begin + len(slice_.pcm) // 2
        assert all(begin <= word.start <= end for word in slice_.words)
        begin = end


async def test_each_character_is_a_word_where_there_are_no_blanks(voice: EspeakSynthesizer) -> None:
    slices = await speak(voice, "你好，我的朋友。", language="zh-CN")
    words = [word.text for slice_ in slices for word in slice_.words]
    assert "".join(words) == "你好，我的朋友。"
    assert len(words) > 3


@pytest.mark.parametrize("text", ["", "  ", "\n"])
async def test_an_empty_text_is_silent(voice: EspeakSynthesizer, text: str) -> None:
    assert await speak(voice, text) == []


async def test_speed_shortens(voice: EspeakSynthesizer) -> None:
    slow, normal, fast = [samples(await speak(voice, SENTENCE, speed=speed)) for speed in (0.6, 1.0, 2.0)]
    assert slow > 1.3 * normal > 1.3 * 1.3 * fast


async def test_voices_differ(voice: EspeakSynthesizer) -> None:
    voices = voice.voices()
    assert voices[0] == "en-us"
    assert {"en-gb", "hi", "de"} <= set(voices)
    spoken = {name: b"".join(s.pcm for s in await speak(voice, SENTENCE, voice=name)) for name in ("en-us", "hi")}
    spoken["en-gb+f3"] = b"".join(s.pcm for s in await speak(voice, SENTENCE, voice="en-GB+f3"))
    assert len({len(pcm) for pcm in spoken.values()}) == 3


@pytest.mark.parametrize(
    ("language", "name"),
    [("en", "en-us"), ("en-GB", "en-gb"), ("en_AU", "en-gb"), ("de-AT", "de"), ("zh-CN", "cmn"), ("no", "nb")],
)
async def test_each_language_has_a_default_voice(voice: EspeakSynthesizer, language: str, name: str) -> None:
    chosen = samples(await speak(voice, "one two three four", language=language))
    named = samples(await speak(voice, "one two three four", voice=name, language="xx"))
    assert chosen == pytest.approx(named, rel=0.02)


@pytest.mark.parametrize("name", ["nobody", "en-us+nobody", "../../etc/passwd", "en-us+../f1"])
async def test_an_unknown_voice_is_refused_before_any_audio(voice: EspeakSynthesizer, name: str) -> None:
    with pytest.raises(ValueError, match="unknown voice"):
        await speak(voice, SENTENCE, voice=name)


async def test_an_unknown_language_is_refused(voice: EspeakSynthesizer) -> None:
    with pytest.raises(ValueError, match="'qqq'"):
        await speak(voice, SENTENCE, language="qqq")


async def test_a_cancelled_sentence_does_not_affect_the_next(voice: EspeakSynthesizer) -> None:
    alone = samples(await speak(voice, SENTENCE))
    for taken in range(1, 6):
        # The whole sentence would take the thread several seconds.
        cancelled = voice.speak(10 * LONG, voice="en-gb", speed=0.5, language="en")
        for _ in range(taken):
            await anext(cancelled)
        await cancelled.aclose()
        async with asyncio.timeout(HANG_S):
            slices = await speak(voice, SENTENCE)
        assert samples(slices) == pytest.approx(alone, rel=0.01)
        assert slices[0].words[0].text == "Hello"


async def test_a_stalled_reader_blocks_the_thread_until_it_closes(voice: EspeakSynthesizer) -> None:
    just_too_long = "word and more words " * 30  # about 36 s
    unread = voice.speak(just_too_long, voice="", speed=1.0, language="en")
    await anext(unread)
    waiting = asyncio.ensure_future(speak(voice, SENTENCE))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await unread.aclose()
    async with asyncio.timeout(HANG_S):
        assert samples(await waiting) > voice.rate_hz


async def test_a_sentence_longer_than_its_queue_loses_nothing(voice: EspeakSynthesizer) -> None:
    slow = voice.speak(LONG, voice="", speed=1.0, language="en")
    first = await anext(slow)
    async with asyncio.timeout(HANG_S):
        rest = [slice_ async for slice_ in slow]
    assert len(rest) > 2 * QUEUED_SLICES  # more than the queue holds
    words = [word.text for slice_ in [first, *rest] for word in slice_.words]
    assert words == LONG.split()


async def test_concurrent_sentences_do_not_mix(voice: EspeakSynthesizer) -> None:
    texts = [f"{word} is said here" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
    spoken = await asyncio.gather(*(speak(voice, text) for text in texts))
    assert [" ".join(word.text for slice_ in slices for word in slice_.words) for slices in spoken] == texts


def test_the_process_can_exit_during_a_sentence() -> None:
    code = """
import asyncio
from services.tts.engines.espeak import EspeakSynthesizer
from shared.settings import Settings

async def main():
    synthesizer = EspeakSynthesizer(Settings())
    await synthesizer.load()
    async for _ in synthesizer.speak("word and more words " * 500, voice="", speed=1.0, language="en"):
        break

asyncio.run(main())
print("over")
"""
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=HANG_S, check=False)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


async def test_there_are_no_gaps_between_the_pieces_of_a_reply(voice: EspeakSynthesizer) -> None:
    """Join the pieces as playout does: the silence at each boundary is short, and no speech is cut off."""
    texts = ["Well, let me see,", "I think that the weather is fine", "and that we can go.", "Shall we?", "Good."]
    pieces = [np.frombuffer(b"".join([one.pcm for one in await speak(voice, text)]), "<i2") for text in texts]
    playout = Playout(voice.rate_hz, 60)
    for index, piece in enumerate(pieces):
        playout.add(VoiceChunk(1, 0, index, 0, voice.rate_hz, piece.tobytes(), ()), 1)
        playout.sentence_done(index, len(piece))
    played = np.frombuffer(b"".join(playout.release(0.0)), "<i2")
    assert np.array_equal(played, np.concatenate(pieces))
    most = {",": 100, "e": 50, ".": 210, "?": 210}  # ms
    for text, piece, following in zip(texts, pieces, pieces[1:], strict=False):
        loud, next_loud = np.flatnonzero(np.abs(piece) > 100), np.flatnonzero(np.abs(following) > 100)
        silence = len(piece) - loud[-1] + next_loud[0]
        assert most[text[-1]] - 20 <= silence * 1000 / voice.rate_hz <= most[text[-1]] + 20, text
