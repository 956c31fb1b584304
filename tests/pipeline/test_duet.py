"""Two agents talk with each other by voice: the whole path, both ways, with the real models of the profile light."""

import pytest

from benchmarks.wer import word_error_rate
from deploy.client.duet import duet, stereo
from tests.support.light_models import light_env
from tests.support.system import running_system

UTTERANCES = 10
AT_MOST_WRONG = 0.15


@pytest.mark.models
@pytest.mark.timeout(900)  # in real time, on a machine that may be busy
async def test_two_agents_hear_every_utterance_of_each_other_as_one_turn() -> None:
    async with running_system(light_env(PARLEY_REPLY_TOKENS="30")) as server:
        sides = await duet(server.url, "host", "assistant", UTTERANCES)
    said, heard = [], []
    for side in sides:
        replies, turns = side.said(), side.other.heard()
        assert len(replies) - len(turns) in (0, 1), list(
            zip(replies, turns, strict=False)
        )  # the last one is not answered
        said += replies[: len(turns)]
        heard += turns
        assert {turn.status for turn in side.conversation.turns.values() if turn.status} == {"completed"}
        assert not side.conversation.errors
    assert len(heard) == UTTERANCES
    assert word_error_rate(said, heard) <= AT_MOST_WRONG, list(zip(said, heard, strict=True))
    assert stereo(sides).any(axis=0).all()
