"""During an update, services of two releases share a broker: conversations go on as before."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio as redis

from deploy.local.supervised import ServiceSpec
from shared.settings import STAGES
from tests.support.caller import calling
from tests.support.other_release import of_release
from tests.support.system import SCRIPTED, running_system

LATER, EARLIER = of_release("later"), of_release("earlier")
ENV = {**SCRIPTED, "PYTHONPATH": str(Path.cwd())}


@pytest.mark.parametrize("later", [("vad", "llm"), ("asr", "tts", "edge")], ids="+".join)
async def test_services_of_different_releases_hold_a_conversation(
    later: tuple[str, ...], speech_pcm: Callable[[str, int], bytes]
) -> None:
    """Every pair of neighbours is of two releases, in both directions."""

    def change(spec: ServiceSpec) -> ServiceSpec:
        if spec.name == "broker":
            return spec
        return LATER(spec) if spec.name in later else EARLIER(spec)

    async with (
        running_system(ENV, change) as system,
        calling(system.url, speed=1.5) as caller,
        redis.Redis.from_url(system.broker_url) as client,
    ):
        await caller.speak(speech_pcm("hello there how are you today", 16_000), silence_s=0.7)
        await caller.until("reply_done", turn=1, status="completed")
        await caller.send("text_input", text="and typed")
        await caller.until("reply_done", turn=2, status="completed")
        await caller.send("configure", config={"speed": 1.0})
        await caller.send("text_input", text="again")
        await caller.until("reply_done", turn=3, status="completed")
        assert not caller.of("error")
        for stage in (*STAGES, "edge"):
            assert await client.xlen(f"parley:{{0}}:dead:{stage}") == 0, stage
        assert not [event for event in system.journal.events if "exited" in event]
        assert any("unknown frames ignored" in line for line in system.journal.lines)
