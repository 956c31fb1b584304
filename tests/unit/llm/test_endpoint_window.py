"""The window of a model behind an endpoint, by an estimate that the endpoint corrects."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.llm.context.endpoint import EndpointWindow, listed_window
from services.llm.context.refusal import TooLong
from services.llm.context.window import split
from services.llm.engine import PromptTooLong
from shared.protocol.session import Message, Tool

TOOL = Tool("lookup", "Looks up a word.", '{"type": "object"}')


def talk(turns: int, words: int = 10) -> list[Message]:
    said = (Message(role, "word " * words, turn) for turn in range(1, turns + 1) for role in ("user", "assistant"))
    return [Message("system", "Be brief.", 0), *said]


def tokens(messages: Sequence[Message], per_token: float) -> int:
    return round(sum(len(one.text) + 20 for one in messages) / per_token)


@given(st.integers(1, 80), st.integers(200, 3000), st.floats(0.8, 8), st.booleans(), st.booleans())
def test_a_few_refusals_find_what_an_endpoint_takes(
    turns: int, takes: int, per_token: float, names_window: bool, counts: bool
) -> None:
    window, whole = EndpointWindow(0, 100), talk(turns)
    for refusals in range(12):
        try:
            fitted = window.fit(whole, (), "")
        except PromptTooLong:
            pinned, of_turns = split(whole)
            assert tokens([*pinned, *of_turns[-1]], per_token) > takes / 4
            return
        asked = tokens(fitted.messages, per_token)
        if asked <= takes:
            assert refusals <= 8
            return
        window.shorten(TooLong(takes + 100 if names_window else 0, asked if counts else 0), fitted, (), "")
        shorter = None
        try:
            shorter = window.fit(whole, (), "")
        except PromptTooLong:
            continue
        assert len(shorter.messages) < len(fitted.messages)
    raise AssertionError("refused for ever")


@given(st.floats(1, 8))
def test_the_estimate_follows_what_the_endpoint_reports(per_token: float) -> None:
    window, said = EndpointWindow(1100, 100), talk(4)
    window.report(said, (), "", tokens(said, per_token))
    for _ in range(60):  # downwards it goes slowly
        window.report(said, (), "", tokens(said, per_token))
    try:
        fitted = window.fit(talk(80), (), "")
    except PromptTooLong:
        assert tokens(talk(1), per_token) > 500
        return
    assert tokens(fitted.messages, per_token) <= 1000
    assert fitted.tokens >= tokens(fitted.messages, per_token) * 0.97


def test_without_a_known_window_nothing_is_left_out() -> None:
    assert EndpointWindow(0, 100).fit(talk(5000), (), "").messages == talk(5000)


def test_tools_and_the_beginning_of_a_reply_take_room() -> None:
    window, long = EndpointWindow(600, 100), talk(100)
    alone, with_tools = window.fit(long, (), ""), window.fit(long, (TOOL,) * 20, "Well, " * 20)
    assert len(with_tools.messages) < len(alone.messages)


def test_windows_in_lists_of_models() -> None:
    assert listed_window({"id": "a", "max_model_len": 4096}) == 4096
    assert listed_window({"id": "a", "meta": {"n_ctx": 2048, "n_ctx_train": 131_072}}) == 2048
    assert listed_window({"id": "a", "context_length": "many", "meta": None}) == 0
    assert listed_window({"id": "a"}) == 0
