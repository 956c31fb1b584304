"""Silero's detector: many sessions in one call are what each would be alone."""

import random
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from services.vad import silero
from services.vad.engine import WINDOW_BYTES
from services.vad.silero import SileroDetector
from shared.engines import UnknownEngine
from shared.settings import Settings


@pytest.fixture
async def detector() -> AsyncIterator[SileroDetector]:
    found = SileroDetector(Settings())
    await found.load()
    yield found
    await found.close()


def whole(pcm: bytes) -> bytes:
    return pcm[: len(pcm) // WINDOW_BYTES * WINDOW_BYTES]


async def test_it_tells_speech_from_silence_and_noise(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    speech = whole(speech_pcm("The quick brown fox jumps over the lazy dog, and goes home.", 16_000))
    noise = np.random.default_rng(1).normal(0, 300, 32_000).astype("<i2").tobytes()
    spoken, silent, noisy = detector.judge([(detector.open(), pcm) for pcm in (speech, bytes(64_000), whole(noise))])
    assert np.mean(np.array(spoken) > 0.5) > 0.8
    assert max(silent) < 0.3
    assert np.mean(np.array(noisy) > 0.5) < 0.1


async def test_many_at_once_are_what_each_is_alone(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    """However the windows of each come: none, one, or many in a call."""
    chance = random.Random(1)
    sounds = [whole(speech_pcm(text, 16_000)) for text in ("Hello there.", "And how are you today?", "No.")]
    alone = [detector.judge([(detector.open(), pcm)])[0] for pcm in sounds]
    ears, at = [detector.open() for _ in sounds], [0] * len(sounds)
    found: list[list[float]] = [[] for _ in sounds]
    while any(begin < len(pcm) for begin, pcm in zip(at, sounds, strict=True)):
        batch, who = [], []
        for index, pcm in enumerate(sounds):
            end = min(len(pcm), at[index] + WINDOW_BYTES * chance.choice([0, 1, 2, 7]))
            if end > at[index]:
                batch.append((ears[index], pcm[at[index] : end]))
                who.append(index)
            at[index] = end
        for index, probabilities in zip(who, detector.judge(batch), strict=True):
            found[index] += probabilities
    assert [len(one) for one in found] == [len(pcm) // WINDOW_BYTES for pcm in sounds]
    for mine, expected in zip(found, alone, strict=True):
        assert mine == pytest.approx(expected, abs=1e-4)


async def test_a_window_knows_no_more_than_what_was_heard(
    detector: SileroDetector, speech_pcm: Callable[[str, int], bytes]
) -> None:
    speech = bytes(20 * WINDOW_BYTES) + whole(speech_pcm("Hello there.", 16_000))
    (early,) = detector.judge([(detector.open(), speech[: 30 * WINDOW_BYTES])])
    (late,) = detector.judge([(detector.open(), speech)])
    assert late[:30] == pytest.approx(early, abs=1e-4)


async def test_nothing_is_judged_where_nothing_came(detector: SileroDetector) -> None:
    assert detector.judge([]) == []


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "find_spec", lambda name: None)
    with pytest.raises(UnknownEngine, match=r"silero-vad.*pip install 'parley\[neural\]'"):
        await SileroDetector(Settings()).load()
