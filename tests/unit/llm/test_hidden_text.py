"""What a model writes and nobody should hear, wherever the deltas cut it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.hidden_text import HiddenText, ThoughtHabit
from shared.protocol.session import ToolCall

SIZES = (1, 2, 3, 7, 1000)
DEEPSEEK = """<|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>book
```json
{"at": 9}
```<|tool_call_end|><|tool_calls_end|>"""
"""With wide bars and underlines, as DeepSeek writes it."""


def read(text: str, size: int, habit: ThoughtHabit | None = None) -> tuple[str, list[tuple[str, object]]]:
    """The text that is heard, and the calls, of a reply that arrives in deltas of this size."""
    reader = HiddenText(habit)
    pieces = [piece for at in range(0, len(text), size) for piece in reader.feed(text[at : at + size])]
    pieces += reader.finish()
    calls = [(one.name, json.loads(one.arguments)) for one in pieces if isinstance(one, ToolCall)]
    return "".join(one for one in pieces if isinstance(one, str)), calls


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "text",
    [
        "<think>Hm.</think>At nine.",
        "\n<think>\nHm.\n</think>\n\nAt nine.",
        "<THINK>Hm.</Think> At nine.",
        "<think>A</think><think>B</think>At nine.",
        "<reasoning>Hm.</reasoning>At nine.",
        "<thought>Hm. <b>So</b>.</thought>At nine.",
        "<seed:think>Hm.</seed:think>At nine.",
        '<think mode="deep">Hm.</think>At nine.',
        "[THINK]Hm.[/THINK]At nine.",
        "\u25c1think\u25b7Hm.\u25c1/think\u25b7At nine.",
        "<|begin_of_thought|>Hm.<|end_of_thought|>At nine.",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>At nine.<|return|>",
        "<|channel>thought\nHm.<channel|>At nine.",
        "At<think>Hm.</think> nine.",
        "At nine.<think>Was that right?",
        "At nine.<|im_end|>",
        "<|im_start|>assistant\nAt nine.<|im_end|><|im_start|>user\nAnd when do you close?",
        "<|start_header_id|>assistant<|end_header_id|>\n\nAt nine.<|eot_id|><|start_header_id|>user<|end_header_id|>Hm",
        "<start_of_turn>model\nAt nine.<end_of_turn><start_of_turn>user\nHm?",
        "At nine.</s>[INST] And then? [/INST]",
        "At nine.<|endoftext|>",
        "At nine.<\uff5cend\u2581of\u2581sentence\uff5c>",
    ],
)
def test_thoughts_and_marks_are_not_heard(text: str, size: int) -> None:
    assert read(text, size) == ("At nine.", [])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "book", "arguments": {"at": 9}}</tool_call>',
        '<tool_call>\n{"name": "book", "parameters": {"at": 9}}\n</tool_call>',
        "<tool_call>book\n<arg_key>at</arg_key>\n<arg_value>9</arg_value>\n</tool_call>",
        "<tool_call>\n<function=book>\n<parameter=at>\n9\n</parameter>\n</function>\n</tool_call>",
        '<function=book>{"at": 9}</function>',
        '<function_calls><invoke name="book"><parameter name="at">9</parameter></invoke></function_calls>',
        '[TOOL_CALLS]book[ARGS]{"at": 9}',
        '[TOOL_CALLS] [{"name": "book", "arguments": {"at": 9}}]',
        '<|python_tag|>{"name": "book", "parameters": {"at": 9}}<|eom_id|>',
        '<|channel|>commentary to=functions.book <|constrain|>json<|message|>{"at": 9}<|call|>',
        DEEPSEEK.replace("|", "\uff5c").replace("_", "\u2581"),
        '{"name": "book", "parameters": {"at": 9}}',
        '[{"type": "function", "function": {"name": "book", "arguments": {"at": 9}}}]',
        '```json\n{"name": "book", "arguments": {"at": 9}}\n```',
        "[book(at=9)]",
    ],
)
def test_calls_that_are_written_as_text_are_calls(text: str, size: int) -> None:
    assert read(text, size) == ("", [("book", {"at": 9})])


def test_words_around_a_call_are_heard() -> None:
    call = '<tool_call>{"name": "book", "arguments": {}}</tool_call>'
    assert read(f"One moment. {call} Done.", 3) == ("One moment.  Done.", [("book", {})])


@pytest.mark.parametrize("text", ["<tool_call>book it</tool_call>", '<tool_call>{"name": "bo', "[TOOL_CALLS] ["])
def test_a_call_that_cannot_be_read_is_not_heard(text: str) -> None:
    assert read(text, 3) == ("", [])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "text",
    ["a < b and c > d", "5 <= 6", "<b>bold</b>", "List<int>", "I think <thinking about it> helps.", "[2] is odd", "{no} [2]",
     '{"a": 1}', "[1, 2]", "x[0](1)", "Go to <start>, then <end>.", "[a(b)](c)", "It is <b", "\u25c1 here", "so </b>"],
)  # fmt: skip
def test_text_that_only_looks_like_it_is_heard(text: str, size: int) -> None:
    assert read(text, size) == (text, [])


@pytest.mark.parametrize("size", SIZES)
def test_a_thought_that_the_template_opened_is_not_heard_from_the_first_reply_on(size: int) -> None:
    habit = ThoughtHabit()
    for _ in range(3):
        assert read("Hours, then.\n</think>\nAt nine.", size, habit) == ("At nine.", [])
        assert habit.opens


def test_a_model_that_is_known_not_to_think_is_heard_at_once() -> None:
    habit = ThoughtHabit()
    habit.learn("Yes.", whole=True)
    assert habit.opens is False
    assert HiddenText(habit).feed("At ") == ["At "]


def test_an_answer_that_was_cut_off_shows_nothing() -> None:
    habit = ThoughtHabit()
    habit.learn("The user wants me to", whole=False)
    assert habit.opens is None


def test_a_habit_that_was_learned_late_counts_for_the_next_reply() -> None:
    habit = ThoughtHabit(opens=False)
    read("Hours.</think>At nine.", 3, habit)
    assert read("Hours.</think>At nine.", 3, habit) == ("At nine.", [])


def test_a_reply_without_the_thought_that_was_expected_makes_the_habit_uncertain() -> None:
    habit = ThoughtHabit(opens=True)
    assert read("At nine.", 3, habit) == ("", [])
    assert read("At nine.", 3, habit) == ("At nine.", [])


WORDS = st.text(st.characters(categories=("L", "N", "P", "Zs", "S"), exclude_characters="<[\u25c1{`"), min_size=1)


@given(WORDS, st.integers(1, 9))
def test_text_without_marks_passes_unchanged(text: str, size: int) -> None:
    assert read(text, size) == (text.lstrip(), [])


@given(st.text("<>[]|/think TOL_CAS:im_end{}\"'\n", max_size=60), st.integers(1, 9))
def test_the_deltas_do_not_matter(text: str, size: int) -> None:
    assert read(text, size) == read(text, 1000)
