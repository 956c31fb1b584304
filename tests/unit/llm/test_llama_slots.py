"""Which slot a reply gets, and when it has to wait for one."""

import asyncio

import pytest

from services.llm.engines.llama_slots import RECENT_S, Slot, SlotPool, best_slot

RULES = "You are an agent. Be brief. "


def test_a_conversation_gets_its_own_slot_again() -> None:
    slots = [Slot(0, RULES + "Anna: hello. Hi Anna.", 9), Slot(1, RULES + "Bert: good day. Hi Bert.", 9), Slot(2)]
    assert best_slot(slots, RULES + "Bert: good day. Hi Bert. And now?", 10).number == 1


def test_a_long_conversation_that_is_recent_is_not_replaced() -> None:
    slots = [Slot(0, RULES + "Anna: hello. Hi Anna, how are you on this fine day?", 9), Slot(1)]
    assert best_slot(slots, RULES + "Bert: good day.", 10).number == 1


def test_the_instructions_of_a_conversation_that_has_just_begun_are_worth_more_than_its_words() -> None:
    assert best_slot([Slot(0, RULES + "Anna: hi.", 9), Slot(1)], RULES + "Bert: good day.", 10).number == 0


def test_a_conversation_that_is_over_is_replaced_by_one_with_the_same_instructions() -> None:
    slots = [Slot(0), Slot(1, RULES + "Anna: hello. Hi Anna, how are you on this fine day?", 9)]
    assert best_slot(slots, RULES + "Bert: good day.", 9 + RECENT_S).number == 1


def test_where_each_loses_more_than_it_saves_the_oldest_is_replaced() -> None:
    slots = [
        Slot(0, "You are Anna's agent.", 8),
        Slot(1, "You are Bert's agent, and kind.", 7),
        Slot(2, "Be brief.", 9),
    ]
    assert best_slot(slots, RULES, 10).number == 1


async def test_a_reply_waits_for_a_slot() -> None:
    pool = SlotPool(1, 100)
    slot = await pool.take("one", 10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.take("two", 10)
    pool.give_back(slot)
    assert (await pool.take("three", 10)).text == "three"


async def test_a_reply_waits_for_room_in_the_cache() -> None:
    pool = SlotPool(3, 100)
    first, _ = await pool.take("one", 60), await pool.take("two", 30)
    async with asyncio.TaskGroup() as tasks:
        third = tasks.create_task(pool.take("three", 50))
        await asyncio.sleep(0)
        assert not third.done()
        pool.give_back(first)
    assert third.result().reserved == 50
