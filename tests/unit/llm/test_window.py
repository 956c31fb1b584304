"""What a prompt leaves out of a conversation that is longer than the model's window."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.context.window import KEPT, SHORTEST_RESULT, Fitted, fit, size, split
from services.llm.engine import PromptTooLong, Shortening
from shared.protocol.prompt import prompt
from shared.protocol.session import Example, Message, ReplyOptions, SessionSettings, ToolCall

AGENT = SessionSettings(instructions="Be brief.", examples=(Example("Hi.", "Hello."), Example("Bye.", "Take care.")))
PINNED = prompt(AGENT, ReplyOptions(), (), 1, "")

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """What was said in some turns. Numbers are left out, calls have short or long results, which may come late."""
    history: list[Message] = []
    turn = draw(st.integers(0, 3))
    for _ in range(draw(st.integers(0, 25))):
        history.append(Message("user", draw(TEXTS), turn))
        if draw(st.booleans()):
            name = f"call_{turn}"
            history.append(Message("assistant", draw(TEXTS), turn, calls=(ToolCall(name, "lookup", "{}"),)))
            result = draw(TEXTS) * draw(st.sampled_from((1, 1, 40)))
            history.append(Message("tool", result, turn + draw(st.integers(0, 2)), answers=name))
        history.append(Message("assistant", draw(TEXTS), turn, interrupted=draw(st.booleans())))
        turn += draw(st.integers(1, 3))
    return history


def conversation(history: Sequence[Message]) -> list[Message]:
    return prompt(AGENT, ReplyOptions(), history, 1000, "And now?")


def bytes_of(messages: Sequence[Message]) -> int:
    return size(messages)


def odd(messages: Sequence[Message]) -> int:
    """Tokens that are not proportional to the bytes, as with real tokenizers."""
    return sum(3 + len(one.text.encode()) // (2 + len(one.text) % 4) for one in messages)


COUNTS = st.sampled_from((bytes_of, odd))


@given(histories(), st.integers(1, 3000), COUNTS)
def test_the_laws_of_the_window(history: list[Message], limit: int, count: object) -> None:
    """Never over the window; what is in every prompt is there; calls have their results; the order stays."""
    assert callable(count)
    whole = conversation(history)
    try:
        fitted = fit(whole, limit, count)
    except PromptTooLong:
        _, turns = split(whole)
        assert count([*PINNED, *(one for one in turns[-1] if one.role != "tool")]) + SHORTEST_RESULT > limit // 2
        return
    kept = fitted.messages
    assert fitted.tokens == count(kept) <= limit
    assert kept[: len(PINNED)] == PINNED
    assert kept[-1] == whole[-1]
    rest = whole[len(whole) - len(kept) + len(PINNED) :]
    for is_, was in zip(kept[len(PINNED) :], rest, strict=True):
        assert is_ == was or (is_.role == "tool" and len(is_.text) < len(was.text))
    asked = [call.id for one in kept for call in one.calls]
    assert [one.answers for one in kept if one.role == "tool"] == asked
    assert kept[len(PINNED)].role == "user"
    if count(whole) <= limit:
        assert fitted == Fitted(whole, count(whole))
    assert fitted.left_out.turns == len(split(whole)[1]) - len(split(kept)[1])


@given(histories(), st.integers(100, 2000))
def test_no_more_is_left_out_than_half_of_the_window(history: list[Message], limit: int) -> None:
    history = [one for one in history if one.role != "tool" and not one.calls]
    whole = conversation(history)
    try:
        fitted = fit(whole, limit, bytes_of)
    except PromptTooLong:
        return
    if not fitted.left_out.turns:
        return
    pinned, turns = split(whole)
    one_more = [*pinned, *(one for turn in turns[fitted.left_out.turns - 1 :] for one in turn)]
    assert fitted.tokens >= KEPT * limit or bytes_of(one_more) > limit


def talk(turns: int, first: int = 1) -> list[Message]:
    said = [(Message("user", "u" * 30, turn), Message("assistant", "a" * 90, turn)) for turn in range(first, turns + 1)]
    return [*PINNED, *(one for turn in said for one in turn)]


def test_the_beginning_of_the_prompt_stays_for_many_turns() -> None:
    limit = 20 * size(talk(1)[len(PINNED) :])
    firsts = [fit(talk(turns), limit, size).messages[len(PINNED)].turn for turns in range(1, 200)]
    assert firsts == sorted(firsts)
    changes = [turn for turn, (before, after) in enumerate(pairwise(firsts)) if before != after]
    apart = [after - before for before, after in pairwise(changes)]
    assert sum(apart) / len(apart) > 7


def test_the_beginning_stays_when_the_edge_forgets_old_messages() -> None:
    limit = 20 * size(talk(1)[len(PINNED) :])
    for turns in range(60, 100):
        assert fit(talk(turns), limit, size).messages == fit(talk(turns, turns - 50), limit, size).messages


def test_tokens_are_counted_only_a_few_times() -> None:
    counted = 0

    def count(messages: Sequence[Message]) -> int:
        nonlocal counted
        counted += 1
        return odd(messages)

    fit(talk(1000), 1000, count)
    assert counted <= 4


def test_the_last_count_is_that_of_the_result() -> None:
    counted: list[Sequence[Message]] = []

    def count(messages: Sequence[Message]) -> int:
        counted.append(messages)
        return odd(messages)

    for limit in range(200, 2000, 100):
        assert fit(talk(30), limit, count).messages == counted[-1]


def test_instructions_and_a_turn_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(PromptTooLong, match=rf"{size(talk(1))} tokens long; the model accepts 100$"):
        fit(talk(30), 100, size)
    assert fit([], 100, size).messages == []


def test_what_the_agent_said_first_is_a_turn() -> None:
    said = [
        Message("system", "i" * 9, 0),
        Message("assistant", "a" * 9, 0, interrupted=True),
        Message("system", "The line is bad.", 0),
        Message("user", "u" * 9, 1),
    ]
    assert fit(said, 60, size) == Fitted([said[0], said[3]], 50, Shortening(1))


def test_items_with_one_number_are_turns_where_the_person_speaks() -> None:
    said = [one for turn in talk(10)[len(PINNED) :] for one in (Message(turn.role, turn.text, 7),)]
    assert len(split(said)[1]) == 10


def called(result: str, turns: int = 3) -> list[Message]:
    """A conversation whose last turn has called a tool."""
    call = ToolCall("call", "read", '{"page": 7}')
    last = [
        Message("user", "u", 9),
        Message("assistant", "", 9, calls=(call,)),
        Message("tool", result, 9, answers="call"),
    ]
    return [*talk(turns), *last]


def test_a_long_result_loses_its_middle_before_the_conversation_is_left_out() -> None:
    whole = called("first " + "x" * 5000 + " last")
    fitted = fit(whole, 2000, size)
    assert [one.role for one in fitted.messages] == [one.role for one in whole]
    cut = fitted.messages[-1].text
    assert cut.startswith("first xxx")
    assert cut.endswith("xxx last")
    assert "characters left out" in cut
    assert 800 <= len(cut) <= 1050
    assert fitted.left_out == Shortening(0, len(whole[-1].text) - len(cut))


def test_results_of_the_last_turn_are_cut_until_they_fit() -> None:
    fitted = fit(called("x" * 5000, turns=30), 500, size)
    assert fitted.messages[: len(PINNED)] == PINNED
    assert [one.role for one in fitted.messages[len(PINNED) :]] == ["user", "assistant", "tool"]
    assert fitted.tokens <= 500


def test_a_short_result_is_not_cut() -> None:
    with pytest.raises(PromptTooLong):
        fit(called("x" * SHORTEST_RESULT), size(PINNED) + 20, size)
