"""The system that tests run on: a start that cannot succeed fails at once, and says why."""

import pytest

from deploy.local.supervisor import StartFailed
from tests.support.system import SCRIPTED, running_system


async def test_a_process_that_dies_at_the_start_fails_it_with_its_log() -> None:
    with pytest.raises(StartFailed, match=r"known are .* scripted[\s\S]*tts failed"):
        async with running_system({**SCRIPTED, "PARLEY_TTS_ENGINE": "nobody"}):
            pass
