"""Clients of all protocols hear each sample once, in order, while the only chat model and the only voice are killed."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from shared.audio.pcm import encode_law
from tests.chaos.test_death import SENTENCES, SLOW
from tests.conftest import system
from tests.support import phone, realtime_talk
from tests.support.caller import calling
from tests.support.engines import SLICE, SLICES
from tests.support.ramp import assert_exact, at_rate
from tests.support.system import System
from tests.support.waiting import until

REPLY = list(range(SLICE * SLICES)) * SENTENCES
Speech = Callable[[str, int], bytes]


@pytest.fixture(scope="module")
def slow_system() -> Iterator[System]:
    with system(SLOW) as running:
        yield running


async def kill_in_the_reply(running: System, samples: Callable[[], int]) -> None:
    """Kill the chat model after the first audio, and the voice in the second sentence."""
    for name, at in (("llm", 1), ("tts", SLICE * SLICES * 5 // 4)):
        await until(lambda at=at: samples() >= at)  # type: ignore[misc]  # a default, because the loop goes on
        os.kill(running.pids[name], signal.SIGKILL)


async def test_on_the_stream(slow_system: System) -> None:
    async with calling(slow_system.url) as caller:
        await caller.send("text_input", text="hello")
        await kill_in_the_reply(slow_system, lambda: len(caller.audio) // 2)
        await caller.until("reply_done", status="completed")
        assert_exact(bytes(caller.audio), REPLY)


async def test_on_realtime(slow_system: System) -> None:
    async with realtime_talk.talking(slow_system.url) as talk:
        content = [{"type": "input_text", "text": "hello"}]
        await talk.connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": content}  # type: ignore[typeddict-item]
        )
        await talk.connection.response.create()
        await kill_in_the_reply(slow_system, lambda: len(talk.sound()) // 3)  # 24 kHz, 2 bytes a sample
        await talk.until("response.done")
        assert_exact(talk.sound(), REPLY, 24_000)


async def test_on_the_phone(slow_system: System, speech_pcm: Speech) -> None:
    async with phone.calling(slow_system.url) as call:
        call.speak(speech_pcm("hello there how are you", 8_000))
        await kill_in_the_reply(slow_system, lambda: 2 * call.received)  # 8 kHz
        expected = encode_law("ulaw", at_rate(REPLY, 8_000))
        await call.until(lambda: len(call.heard) >= len(expected))
        await asyncio.sleep(0.5)  # nothing follows
        assert bytes(call.heard) == expected
