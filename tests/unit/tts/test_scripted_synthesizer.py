"""The scripted synthesizer: sample values that count up, in slices, with words at equal distances."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engine import Speech
from services.tts.engines.scripted import ScriptedSynthesizer
from shared.settings import Settings


async def speak(settings: Settings, text: str = "one two three") -> list[Speech]:
    synthesizer = ScriptedSynthesizer(settings)
    return [slice_ async for slice_ in synthesizer.speak(text, voice="", speed=1.0, language="en")]


@pytest.mark.parametrize("seconds", [0.05, 0.2, 1.0, 2.5])
async def test_the_sample_values_count_up(seconds: float) -> None:
    slices = await speak(Settings(scripted_tts_seconds=seconds))
    samples = np.frombuffer(b"".join(slice_.pcm for slice_ in slices), "<i2")
    assert np.array_equal(samples, np.arange(round(16_000 * seconds)) % 32_768)
    assert all(0 < len(slice_.pcm) <= 2 * 3_200 for slice_ in slices)


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, max_size=60))
def test_each_word_is_in_the_slice_in_which_it_starts(words: list[str]) -> None:
    slices = asyncio.run(speak(Settings(), " ".join(words)))
    spoken = [word for slice_ in slices for word in slice_.words]
    assert [word.text for word in spoken] == words
    assert (spoken[0].start, spoken[-1].end) == (0, 16_000)
    assert all(before.end == after.start for before, after in pairwise(spoken))
    begin = 0
    for slice_ in slices:
        end = begin + len(slice_.pcm) // 2
        assert all(begin <= word.start < end for word in slice_.words)
        begin = end


async def test_an_empty_text_is_silent() -> None:
    assert await speak(Settings(), "  ") == []


async def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        await anext(ScriptedSynthesizer(Settings()).speak("hello", voice="nobody", speed=1.0, language="en"))


async def test_the_first_audio_waits_for_its_delay() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await speak(Settings(scripted_tts_ms=50))
    assert 0.05 <= loop.time() - begun < 0.5
