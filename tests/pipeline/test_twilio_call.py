"""A phone call as Twilio makes it, through the whole system."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from websockets.asyncio.client import connect

from tests.support.phone import SAMPLES_PER_S, Phone, calling
from tests.support.system import System
from tests.support.waiting import HANG_S

Speech = Callable[[str, int], bytes]


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", SAMPLES_PER_S)


async def test_a_caller_is_answered_twice(parley_server: System, words: bytes) -> None:
    async with calling(parley_server.url, caller="+491234567") as phone:
        for turn in (1, 2):
            phone.speak(bytes(SAMPLES_PER_S) + words)  # half a second of listening, then the next turn
            await phone.until(lambda turn=turn: len(phone.heard) == turn * SAMPLES_PER_S)  # type: ignore[misc]
        marks = [tuple(map(int, name.removeprefix("t").split(":"))) for name in phone.echoed]
        for turn in (1, 2):
            ends = [end for mark_turn, end, clears in marks if (mark_turn, clears) == (turn, 0)]
            # What was played is known to a fifth of a second, up to the last sample.
            assert ends[-1] == SAMPLES_PER_S
            assert all(0 < end - before <= SAMPLES_PER_S // 5 for before, end in pairwise([0, *ends]))
        assert phone.received == len(phone.heard)
        assert not phone.clears


async def test_speech_during_the_reply_silences_the_line(talkative_server: System, words: bytes) -> None:
    async with calling(talkative_server.url) as phone:
        phone.speak(words)
        await phone.until(lambda: len(phone.heard) > SAMPLES_PER_S // 2)
        spoken_at = len(phone.heard)
        phone.speak(words)
        await phone.until(lambda: bool(phone.clears))
        assert phone.clears[0] - spoken_at < 3 * SAMPLES_PER_S  # of the minute that was queued
        thrown_away = phone.received - len(phone.heard)
        assert thrown_away > 3 * SAMPLES_PER_S
        heard = len(phone.heard)
        await phone.until(lambda: len(phone.heard) - heard > SAMPLES_PER_S)
        assert phone.echoed[-1].startswith("t2:")
        assert phone.echoed[-1].endswith(":1")


async def test_the_end_of_the_call_ends_the_stream(parley_server: System) -> None:
    target = f"ws{parley_server.url.removeprefix('http')}/phone/twilio"
    async with connect(target, compression=None) as socket:
        await Phone(socket).begin()
        await socket.send(json.dumps({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}}))
        async with asyncio.timeout(HANG_S):
            await socket.wait_closed()
        assert socket.close_code == 1000


async def test_what_is_no_call_is_refused(parley_server: System) -> None:
    target = f"ws{parley_server.url.removeprefix('http')}/phone/twilio"
    async with connect(target, compression=None) as socket:
        await Phone(socket).begin(endpoint_ms="soon")
        async with asyncio.timeout(HANG_S):
            await socket.wait_closed()
        assert socket.close_code == 1008
        assert "endpoint_ms" in (socket.close_reason or "")
