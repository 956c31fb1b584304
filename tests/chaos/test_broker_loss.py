"""The broker loses keys, groups or scripts: no worker ends, sessions go on or end with a reason, and new ones work."""

from collections.abc import Awaitable, Callable, Iterator

import pytest

from shared.settings import STAGES
from tests.conftest import system
from tests.support.broker_trouble import (
    JOBS,
    Client,
    answered,
    keys_of_sessions,
    told_of_the_end,
    until_new_sessions_work,
    until_nothing_is_left,
)
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System

Loss = Callable[[Client], Awaitable[object]]


@pytest.fixture(scope="module")
def whole_system() -> Iterator[System]:
    with system({**SCRIPTED, "PARLEY_LEASE_MS": "600"}) as running:
        yield running


def command(*words: str | int) -> Loss:
    async def strike(client: Client) -> object:
        return await client.execute_command(*words)

    return strike


async def delete_sessions(client: Client) -> None:
    async for key in keys_of_sessions(client):
        await client.delete(key)


LOSSES: dict[str, Loss] = {
    "FLUSHALL": command("FLUSHALL"),
    "SCRIPT FLUSH": command("SCRIPT", "FLUSH"),
    "DEL of all sessions": delete_sessions,
    "XTRIM jobs:vad": command("XTRIM", JOBS + "vad", "MAXLEN", 0),
    **{f"DEL jobs:{stage}": command("DEL", JOBS + stage) for stage in STAGES},
    **{f"XGROUP DESTROY {stage}": command("XGROUP", "DESTROY", JOBS + stage, stage) for stage in STAGES},
}
ENDS_SESSIONS = {"FLUSHALL", "DEL of all sessions"}
SPOKEN = {"FLUSHALL", "DEL jobs:asr", "XGROUP DESTROY asr"}
"""Losses after which the new session's turn is spoken; that takes longer."""


@pytest.mark.parametrize("loss", LOSSES)
async def test_what_the_broker_lost_is_made_again(
    whole_system: System, loss: str, speech_pcm: Callable[[str, int], bytes]
) -> None:
    pids = whole_system.pids
    words = speech_pcm("hello there", 16_000) if loss in SPOKEN else b""
    async with (
        Client.from_url(whole_system.broker_url, decode_responses=True) as client,
        calling(whole_system.url) as idle,
        calling(whole_system.url) as talking,
    ):
        await answered(talking, 1)
        await LOSSES[loss](client)
        for caller, turn in ((talking, 2), (idle, 1)):
            await (told_of_the_end(caller) if loss in ENDS_SESSIONS else answered(caller, turn))
        await until_new_sessions_work(whole_system.url, words)
    await until_nothing_is_left(whole_system.broker_url)
    assert whole_system.pids == pids


async def test_a_session_that_ends_at_once_leaves_no_key_for_ever(whole_system: System) -> None:
    """Its vad worker writes after the edge has set the last time to live."""
    for _ in range(5):
        async with calling(whole_system.url) as caller:
            await caller.send("text_input", text="hello")
    await until_nothing_is_left(whole_system.broker_url)
