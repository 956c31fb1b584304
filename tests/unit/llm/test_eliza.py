"""Eliza answers any text, always in the same way, and continues after a prefix."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.engines.eliza import MAX_INPUT, ElizaModel, answer
from shared.protocol.session import Message
from shared.settings import Settings


def said(text: str) -> tuple[Message, ...]:
    return (Message("system", "Be brief.", 0), Message("user", text, 1))


async def reply(messages: tuple[Message, ...], prefix: str = "") -> list[str]:
    return [delta async for delta in ElizaModel(Settings()).reply(messages, language="en", prefix=prefix)]


async def test_pronouns_are_swapped() -> None:
    model = ElizaModel(Settings())
    await model.load()
    text = "".join(await reply(said("I need my mother.")))
    assert "your mother" in text
    await model.close()


async def test_a_reply_comes_word_by_word() -> None:
    deltas = await reply(said("I need a holiday"))
    assert len(deltas) > 3
    assert all(len(delta.split()) == 1 for delta in deltas)
    assert "".join(deltas) == answer(said("I need a holiday"))


async def test_a_reply_continues_after_a_prefix() -> None:
    whole = "".join(await reply(said("I need a holiday")))
    for length in range(len(whole) + 1):
        assert whole[:length] + "".join(await reply(said("I need a holiday"), whole[:length])) == whole


async def test_a_foreign_prefix_ends_the_reply() -> None:
    assert await reply(said("I need a holiday"), "Something else") == []


def test_replies_do_not_depend_on_the_global_random_generator() -> None:
    state = random.getstate()
    replies = set()
    for seed in range(5):
        random.seed(seed)
        before = random.getstate()
        replies.add(answer(said("ten of clubs")))
        assert random.getstate() == before
    random.setstate(state)
    assert len(replies) == 1


def test_the_history_varies_the_reply() -> None:
    replies = {answer((Message("user", str(turn), turn), *said("ten of clubs"))) for turn in range(20)}
    assert len(replies) > 3


@pytest.mark.parametrize("text", ["", "   ", "\N{PILE OF POO}", "I need 50% off", "%1 %9 %", "\ud800", "x" * 100_000])
def test_unusual_text_is_answered(text: str) -> None:
    reply = answer(said(text))
    assert reply.strip()
    assert len(reply) < MAX_INPUT + 200
    reply.encode()  # has no lone surrogate


@given(st.text(max_size=200))
def test_any_text_is_answered_in_one_clean_line(text: str) -> None:
    reply = answer(said(text))
    assert reply == " ".join(reply.split()) != ""


def test_a_conversation_without_a_user_is_greeted() -> None:
    assert answer((Message("system", "Be brief.", 0),)) == answer(()) != ""
