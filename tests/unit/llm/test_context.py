"""Truncating a long conversation to the context window."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.engines.context import TURNS_AT_ONCE, truncated
from shared.protocol.prompt import prompt
from shared.protocol.session import Message, ReplyOptions, SessionSettings, ToolCall


def length(messages: Sequence[Message]) -> int:
    return sum(len(message.text) + 1 for message in messages)


def turns(sizes: Sequence[tuple[int, int]], instructions: int = 0) -> list[Message]:
    messages = [Message("system", "i" * instructions, 0)] if instructions else []
    for turn, (asked, answered) in enumerate(sizes, 1):
        messages += [Message("user", "u" * asked, turn), Message("assistant", "a" * answered, turn)]
    return messages


SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=40)


@given(SIZES, st.integers(0, 30), st.integers(0, 1000))
def test_the_kept_turns_fit_and_are_complete(sizes: list[tuple[int, int]], instructions: int, limit: int) -> None:
    messages = turns(sizes, instructions)
    head = messages[: bool(instructions)]
    last = messages[-2:]
    if length([*head, *last]) > limit:
        with pytest.raises(ValueError, match=rf"{length([*head, *last])} tokens long; the model accepts {limit}$"):
            truncated(messages, limit, length)
        return
    kept, out = truncated(messages, limit, length)
    assert length(kept) <= limit
    assert kept[: len(head)] == head
    assert kept[len(head) :] == [message for message in messages if message.turn > out]
    assert kept[-2:] == last
    if out:
        assert length(messages) > limit
        assert out % TURNS_AT_ONCE == 0 or out == len(sizes) - 1


@given(SIZES, st.integers(100, 1000))
def test_no_turn_is_dropped_without_need(sizes: list[tuple[int, int]], limit: int) -> None:
    messages = turns(sizes)
    _, out = truncated(messages, limit, length)
    before = (out - 1) // TURNS_AT_ONCE * TURNS_AT_ONCE
    assert out == 0 or length([message for message in messages if message.turn > before]) > limit


def test_the_prefix_is_stable_for_several_turns() -> None:
    outs = [truncated(turns([(9, 9)] * count, 19), 20 * 21, length)[1] for count in range(1, 100)]
    assert outs[:20] == [0] * 20
    changed = [count for count, (before, after) in enumerate(pairwise(outs)) if before != after]
    assert {after - before for before, after in pairwise(changed)} == {TURNS_AT_ONCE}
    assert {after - before for before, after in pairwise(outs)} == {0, TURNS_AT_ONCE}


def test_the_tokens_are_counted_only_a_few_times() -> None:
    counted = 0

    def count(messages: Sequence[Message]) -> int:
        nonlocal counted
        counted += 1
        return length(messages)

    truncated(turns([(9, 9)] * 1000), 200, count)
    assert counted <= 12


def test_instructions_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match="11 tokens long; the model accepts 10"):
        truncated([Message("system", "i" * 10, 0)], 10, length)
    assert truncated([], 10, length) == ([], 0)


def test_messages_before_the_first_turn_are_not_instructions() -> None:
    said = [
        Message("system", "i" * 9, 0),
        Message("assistant", "a" * 9, 0, interrupted=True),
        Message("system", "The line is bad.", 0),
        Message("user", "u" * 9, 1),
    ]
    assert truncated(said, 40, length) == ([said[0], said[3]], 1)


@given(st.integers(30, 1000), st.integers(0, 3), st.booleans())
def test_calls_and_their_results_stay_together(limit: int, late: int, interrupted: bool) -> None:
    """A result that arrives turns later is kept and dropped together with its call."""
    history = []
    for turn in range(1, 30):
        name = f"call_{turn}"
        history += [
            Message("user", "u" * 5, turn),
            Message("assistant", "a" * 5, turn, interrupted=interrupted),
            Message("assistant", "", turn, calls=(ToolCall(name, "lookup", "{}"),)),
        ]
        history.append(Message("tool", "t" * 5, turn + late, answers=name))
    messages = prompt(SessionSettings(instructions="Be brief."), ReplyOptions(), history, 40, "And now?")
    kept, out = truncated(messages, max(limit, length(messages[:1]) + length(messages[-1:])), length)
    asked = [call.id for message in kept for call in message.calls]
    assert [message.answers for message in kept if message.role == "tool"] == asked
    assert kept[1].role == "user"
    assert out == 0 or [message for message in messages if message not in kept][-1].turn < kept[1].turn + late + 1
    assert kept[-1] == messages[-1]


def test_the_last_turn_may_be_a_tool_result() -> None:
    history = [
        *turns([(9, 9)] * 10),
        Message("user", "u" * 9, 11),
        Message("assistant", "", 11, calls=(ToolCall("call_1", "lookup", "{}"),)),
        Message("tool", "t" * 9, 12, answers="call_1"),
    ]
    messages = prompt(SessionSettings(), ReplyOptions(), history, 13, "")
    kept, out = truncated(messages, 25, length)
    assert (kept, out) == (messages[-3:], 10)
