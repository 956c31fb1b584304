"""People, not synthesisers: recordings through the whole path with the engines of the classic profile."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from shared.audio.pcm import Resampler
from tests.support.caller import calling
from tests.support.system import System

COMMANDS = {
    "cards-001.wav": {"ten of clubs"},
    "cards-002.wav": {"four queen of clubs", "for queen of clubs"},
    "cards-003.wav": {"seven of clubs"},
    "goforward.wav": {"go forward ten meters"},
}


def recording(path: Path) -> bytes:
    samples, rate_hz = soundfile.read(path, dtype="int16")
    resampler = Resampler(rate_hz, 16_000)
    return resampler.process(np.ascontiguousarray(samples).tobytes()) + resampler.flush()


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_a_command_is_understood_to_the_word_and_answered_in_speech(
    classic_server: System, clips: Path, name: str
) -> None:
    async with calling(classic_server.url) as caller:
        await caller.speak(recording(clips / name), silence_s=1.0)
        await caller.until("reply_done", turn=1, status="completed")
        assert (await caller.until("transcript", final=True))["text"] in COMMANDS[name]
        assert len(caller.audio) > 16_000
        assert np.abs(np.frombuffer(caller.audio, "<i2").astype(int)).max() > 3_000
