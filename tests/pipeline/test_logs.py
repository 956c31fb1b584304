"""What real processes log of a whole conversation: JSON lines that name session and turn, and never what was said."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.conftest import system
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S

Speech = Callable[[str, int], bytes]

HEARD, REPLIED, TYPED = "hello there", "a scripted reply", "what about my secret garden"


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", 16_000)


@pytest.fixture(scope="module")
def outspoken_server() -> Iterator[System]:
    """A system that may log what is said, and traces to its output."""
    traced = {"PARLEY_TRACES": "console", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with system({**SCRIPTED, **traced, "PARLEY_LOG_CONTENT": "true"}) as running:
        yield running


async def converse(server: System, words: bytes) -> str:
    """A spoken turn and a typed one. Returns the session's id."""
    async with calling(server.url) as caller:
        await caller.speak(words, silence_s=0.7)
        await caller.until("reply_done", turn=1)
        await caller.send("text_input", text=TYPED)
        await caller.until("reply_done", turn=2)
        session: str = caller.of("ready")[0]["session_id"]
    return session


def records(server: System) -> list[dict[str, Any]]:
    """What the processes have logged so far: an object a line, all of it."""
    lines = [line.partition(": ")[2] for line in server.journal.lines if line.partition(": ")[0] in server.pids]
    return [json.loads(line) for line in lines]


def named(found: Sequence[dict[str, Any]], event: str, session: str) -> list[dict[str, Any]]:
    return [record for record in found if record.get("event") == event and record.get("session") == session]


async def test_nothing_that_was_said_is_logged(parley_server: System, words: bytes) -> None:
    session = await converse(parley_server, words)
    found = records(parley_server)
    assert named(found, "session began", session)[0]["role"] == "edge"
    text = json.dumps(found)
    assert not [said for said in (HEARD, REPLIED, TYPED) if said in text]


async def test_what_was_said_is_logged_where_that_is_asked_for(outspoken_server: System, words: bytes) -> None:
    session = await converse(outspoken_server, words)
    found = records(outspoken_server)
    replied = named(found, "replied", session)
    transcribed, typed = named(found, "turn transcribed", session), named(found, "turn typed", session)
    assert [(one["role"], one["turn"], one["text"]) for one in (*transcribed, *typed)] == [
        ("asr", 1, HEARD),
        ("vad", 2, TYPED),
    ]
    assert [(one["role"], one["turn"]) for one in replied] == [("llm", 1), ("llm", 2)]
    assert all(REPLIED in one["text"] for one in replied)
    assert len({transcribed[0]["trace_id"], replied[0]["trace_id"], replied[1]["trace_id"]}) == 2
    assert transcribed[0]["trace_id"] == replied[0]["trace_id"]
    async with asyncio.timeout(HANG_S):
        while not (spans := [one for one in records(outspoken_server) if one.get("name") == "llm"]):
            await asyncio.sleep(0.05)
    about = spans[0]["attributes"]
    assert {"role": "user", "parts": [{"type": "text", "content": HEARD}]} in json.loads(about["gen_ai.input.messages"])
    assert REPLIED in about["gen_ai.output.messages"]
