"""A call goes on after its line, or its edge, is gone: every sample and every event once, in order, at any edge."""

import asyncio
import os
import signal
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio as redis
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosedError

from deploy.client.conversation import Conversation, Recording, converse
from tests.chaos.test_death import SENTENCES, SLOW, assert_whole, reply_text
from tests.conftest import system
from tests.support.caller import Caller, calling
from tests.support.edges import Edge, running_edge
from tests.support.engines import SLICE, SLICES, TEXT
from tests.support.ramp import assert_exact
from tests.support.realtime_talk import talking
from tests.support.system import System
from tests.support.waiting import HANG_S, until

Loss = Callable[[Caller, Edge], Awaitable[None]]
Speech = Callable[[str, int], bytes]
ENV = {**SLOW, "PARLEY_DRAIN_MS": "300"}


@pytest.fixture(scope="module")
def slow_system() -> Iterator[System]:
    with system(SLOW) as running:
        yield running


@pytest.fixture
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", 16_000)


async def lose_the_line(caller: Caller, edge: Edge) -> None:
    caller.lose_line()


async def kill_the_edge(caller: Caller, edge: Edge) -> None:
    edge.process.kill()


async def stop_the_edge(caller: Caller, edge: Edge) -> None:
    edge.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("how", "when"),
    [(lose_the_line, "processing_started"), (kill_the_edge, "second"), (stop_the_edge, "audio")],
)
async def test_a_reply_goes_on_at_another_edge(slow_system: System, how: Loss, when: str, words: bytes) -> None:
    async with running_edge(slow_system, ENV) as edge, calling(edge.url) as caller:
        await caller.speak(words, silence_s=0.8)
        if when == "second":
            await caller.where(lambda _: "second" in reply_text(caller), HANG_S, "second sentence")
        else:
            await caller.until(when)
        await how(caller, edge)
        closed = await caller.until("closed")
        if how is stop_the_edge:
            assert closed["code"] == 1012
            assert "resume token" in closed["reason"]
        async with caller.resumed(slow_system.url):
            assert caller.of("ready")[-1]["resumed"]
            assert len({ready["session_id"] for ready in caller.of("ready")}) == 1
            await caller.until("reply_done")
            assert_whole(caller)


async def test_the_conversation_goes_on_at_the_same_edge_and_only_on_one_line(
    slow_system: System, words: bytes
) -> None:
    async with calling(slow_system.url) as caller:
        await caller.send("text_input", text="one")
        await caller.until("reply_done", turn=1)
        caller.lose_line()
        await caller.until("closed")
        async with caller.resumed(slow_system.url):
            await caller.send("get_history")
            said = (await caller.until("history"))["messages"]
            assert [(one["role"], one["turn"]) for one in said] == [("user", 1), ("assistant", 1)]
            await caller.speak(words, silence_s=0.8)  # the microphone's samples are numbered on
            await caller.until("transcript", turn=2, final=True, text="hello there")
            async with calling(slow_system.url, start=False) as other:
                other.received = caller.received
                await other.send("start_streaming", **caller.received.fields())
                assert (await other.until("ready"))["resumed"]
                assert (await caller.until("closed"))["code"] == 1008
                await other.until("reply_done", turn=2, status="completed")


@pytest.mark.parametrize(("how", "samples"), [("lost", 1), ("killed", SLICE * SLICES * 5 // 4), ("stopped", 1)])
async def test_a_client_of_openai_goes_on_at_another_edge(slow_system: System, how: str, samples: int) -> None:
    async with running_edge(slow_system, ENV) as edge, talking(edge.url, resume="allow") as talk:
        content = [{"type": "input_text", "text": "hello"}]
        message: Any = {"id": "mine", "type": "message", "role": "user", "content": content}
        await talk.connection.conversation.item.create(item=message)
        await talk.connection.response.create()
        await until(lambda: len(talk.sound()) // 3 >= samples)  # 24 kHz, 2 bytes a sample
        if how == "lost":
            talk.lose_line()
        else:
            edge.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        async with talk.resumed(slow_system.url):
            await talk.until("response.done")
            if how == "stopped":
                assert talk.lost is not None
                assert talk.lost.code == 1012
                assert "resume token" in talk.lost.reason
            assert_exact(talk.sound(), list(range(SLICE * SLICES)) * SENTENCES, 24_000)
            assert "".join(event.delta for event in talk.of("response.output_audio_transcript.delta")) == TEXT
            once = [(event.type, event.item.id) for event in talk.events if event.type.startswith("conversation.item.")]
            assert len(once) == len(set(once)) == 4
            (response,) = talk.of("response.done")
            assert response.response.id == talk.of("response.created")[0].response.id
            for item_id in ("mine", response.response.output[0].id):
                await talk.connection.conversation.item.retrieve(item_id=item_id)
            await until(lambda: len(talk.of("conversation.item.retrieved")) == 2)
            await talk.connection.response.create()
            await talk.until("response.done", after=len(talk.events))


async def test_a_realtime_session_that_is_gone_is_refused(slow_system: System) -> None:
    async with (
        AsyncOpenAI(base_url=f"{slow_system.url}/v1", api_key="any") as client,
        client.realtime.connect(model="parley", extra_query={"resume": "now"}) as connection,
    ):
        wrong: Any = {"type": "parley.session.resume", "token": f"{'0' * 32}.secret", "last_event_id": "event_1_0_0"}
        await connection.send(wrong)
        assert (await connection.recv()).error.code == "session_not_found"
        with pytest.raises(ConnectionClosedError, match="1008"):
            await connection.recv()


async def test_a_session_that_is_gone_begins_again_with_what_the_client_says(slow_system: System) -> None:
    said = [{"role": "user", "text": "My name is Ada."}]
    async with calling(slow_system.url, start=False) as caller:
        await caller.send("start_streaming", resume=f"{'0' * 32}.secret", history=said)
        assert not (await caller.until("ready"))["resumed"]
        await caller.send("get_history")
        assert (await caller.until("history"))["messages"][0]["text"] == "My name is Ada."


async def test_nothing_is_left_of_a_session_whose_client_does_not_come_back(slow_system: System) -> None:
    async with (
        running_edge(slow_system, {**ENV, "PARLEY_RESUME_S": "1"}) as edge,
        redis.Redis.from_url(slow_system.broker_url) as client,
    ):
        async with calling(edge.url) as caller:
            session = caller.of("ready")[0]["session_id"]
            secret = caller.received.token.partition(".")[2]
            await caller.send_raw(bytes(640))
            await caller.send("text_input", text="one")
            await caller.until("audio")
            keys = [key async for key in client.scan_iter(f"*:{session}")]
            assert len(keys) >= 4
            assert not [key for key in keys if await client.ttl(key) < 0]  # made with their expiry
            assert secret not in str(await client.hgetall(f"parley:{{0}}:session:{session}"))
            caller.lose_line()
            await caller.until("closed")

        async def is_free() -> bool:
            held = await client.xpending("parley:{0}:jobs:vad", "vad")
            return not held["pending"] and not [key async for key in client.scan_iter(f"*:{session}")]

        async with asyncio.timeout(HANG_S):
            while not await is_free():
                await asyncio.sleep(0.1)


async def test_the_python_client_goes_on_when_its_edge_is_killed_and_comes_back(
    slow_system: System, words: bytes
) -> None:
    killed: list[int] = []

    def kill_once(message: dict[str, Any], conversation: Conversation) -> None:
        if not killed and "second" in "".join(turn.reply for turn in conversation.turns.values()):
            killed.append(slow_system.pids["edge"])
            os.kill(killed[0], signal.SIGKILL)

    conversation = await converse(Recording(words), slow_system.url, kill_once)
    assert killed
    assert conversation.turns[1].status == "completed"
    assert conversation.turns[1].reply == TEXT
    ramp = tuple(range(SLICE * SLICES)) * SENTENCES
    assert struct.unpack(f"<{len(conversation.track.reply) // 2}h", conversation.track.reply) == ramp
