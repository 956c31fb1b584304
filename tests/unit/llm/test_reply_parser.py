"""Parsing generated tokens into text and tool calls."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.engines.reply_parser import ReplyParser, ResponseFormat
from shared.protocol.session import Tool, ToolCall
from tests.support import random_models

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
OTHERS = ["[TOOL_CALLS]", "[ARGS]", "<|tool_call>", "<tool_call|>", '<|"|>', "<turn|>", "<|python_tag|>"]
OTHERS += [f"<|{name}|>" for name in ("start", "channel", "message", "end", "return", "call", "constrain")]
KINDS = ("qwen3", "llama")
"""A model type whose format the library knows, and one that it does not know."""
TOOL = Tool("lookup", "Looks it up.", '{"type": "object", "properties": {"of": {"type": "string"}}}')
ASKED = '{"name": "lookup", "arguments": {"of": "trains"}}'


class Parsing:
    """Parses text as the output of a model of one type."""

    def __init__(self, folder: Path, kind: str) -> None:
        import transformers

        hf: Any = transformers
        made = random_models.tokenizer(folder, 400, [*SPECIAL, *OTHERS])
        self.tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>")
        self.response_format = ResponseFormat(self.tokenizer, SimpleNamespace(config=SimpleNamespace(model_type=kind)))

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def pieces(
        self, text: str, *, prompt: str = "", prefix: str = "", tools: Sequence[Tool] = (TOOL,), at_once: int = 1
    ) -> list[str | ToolCall]:
        parser = ReplyParser(self.response_format, self.ids(prompt), prefix, tools)
        ids = self.ids(text)
        found = [piece for end in range(at_once, len(ids) + at_once, at_once) for piece in parser.take(ids[:end])]
        return [*found, *parser.finish()]

    def read(self, text: str, **given: Any) -> tuple[str, list[tuple[str, Any]]]:
        pieces = self.pieces(text, **given)
        words = "".join(piece for piece in pieces if isinstance(piece, str))
        return words, [(one.name, json.loads(one.arguments)) for one in pieces if isinstance(one, ToolCall)]


@pytest.fixture(scope="module")
def parsing(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Parsing]:
    made = {kind: Parsing(tmp_path_factory.mktemp(kind), kind) for kind in (*KINDS, "qwen3_5", "gemma4", "gpt_oss")}
    return made.__getitem__


each_kind = pytest.mark.parametrize("kind", KINDS)
CALL = ("lookup", {"of": "trains"})


@each_kind
def test_text_is_streamed_token_by_token(parsing: Callable[[str], Parsing], kind: str) -> None:
    """A space waits for the next token: it may come before a call."""
    assert parsing(kind).pieces("Hello, you.") == [*"Hello,", " y", *"ou."]


@pytest.mark.parametrize("at_once", [1, 2, 7, 1000])
@pytest.mark.parametrize("text", ["naïve 日本語 🙂👩‍👩‍👧 и всё.", "a < b, a <tool b <", "{no} [2]", "x</y> 5 <= 6"])
@each_kind
def test_multibyte_characters_and_brackets_stay_intact(
    parsing: Callable[[str], Parsing], kind: str, text: str, at_once: int
) -> None:
    pieces = parsing(kind).pieces(text, at_once=at_once)
    assert "".join(map(str, pieces)) == text
    assert all("\N{REPLACEMENT CHARACTER}" not in str(piece) for piece in pieces)


@each_kind
def test_an_incomplete_character_is_dropped(parsing: Callable[[str], Parsing], kind: str) -> None:
    one = parsing(kind)
    parser = ReplyParser(one.response_format, [], "", ())
    assert "".join(map(str, [*parser.take(one.ids("Oh 🙂")[:-1]), *parser.finish()])) == "Oh "


@pytest.mark.parametrize(
    ("text", "words", "calls"),
    [
        (f"<tool_call>\n{ASKED}\n</tool_call>", "", [CALL]),
        (f"Let me see.\n<tool_call>\n{ASKED}\n</tool_call>", "Let me see.", [CALL]),
        (f"<tool_call>{ASKED}</tool_call>\n<tool_call>\n{ASKED}\n</tool_call>", "", [CALL, CALL]),
        (f"<tool_call>{ASKED}</tool_call> Done.", " Done.", [CALL]),
        (f"<tool_call>\n{ASKED}\n", "", [CALL]),
        ('<tool_call>{"name": "lookup"}</tool_call>', "", [("lookup", {})]),
        ('<tool_call>{"name": "lookup", "arguments": null}</tool_call>', "", [("lookup", {})]),
        ('<tool_call>{"name": "lookup", "parameters": {"of": "trains"}}</tool_call>', "", [CALL]),
        ('<tool_call>{"name": "lookup", "arguments": "{}"}</tool_call>', "", [("lookup", {})]),
    ],
)
@each_kind
def test_tool_calls_are_parsed(
    parsing: Callable[[str], Parsing], kind: str, text: str, words: str, calls: list[tuple[str, Any]]
) -> None:
    assert parsing(kind).read(text) == (words.lstrip(), calls)


@pytest.mark.parametrize(
    "bad",
    ["{broken", "", "[1]", "5", '"lookup"', '{"name": 5, "arguments": {}}', '{"arguments": {}}', "{}", "null", "[{}]"],
)
@each_kind
def test_an_invalid_call_is_dropped_and_the_next_one_kept(
    parsing: Callable[[str], Parsing], kind: str, bad: str
) -> None:
    text = f"Well.<tool_call>{bad}</tool_call> So.<tool_call>{ASKED}</tool_call>"
    assert parsing(kind).read(text) == ("Well. So.", [CALL])


@pytest.mark.parametrize("cut", range(1, len(ASKED)))
@each_kind
def test_an_incomplete_call_is_dropped(parsing: Callable[[str], Parsing], kind: str, cut: int) -> None:
    assert parsing(kind).read(f"Wait.<tool_call>{ASKED[:cut]}") == ("Wait.", [])


@each_kind
def test_call_ids_are_unique(parsing: Callable[[str], Parsing], kind: str) -> None:
    pieces = parsing(kind).pieces(f"<tool_call>{ASKED}</tool_call>" * 3)
    assert len({piece.id for piece in pieces if isinstance(piece, ToolCall)}) == 3


@pytest.mark.parametrize(
    ("prompt", "text", "words"),
    [
        ("", "<think>\nHm, hm.\n</think>\n\nYes.", "Yes."),
        ("", "<think>\n\n</think>\n\nYes.", "Yes."),
        ("", "<think>and on and on", ""),
        ("<|im_start|>assistant\n<think>\n", "Hm.\n</think>\n\nYes.", "Yes."),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "Yes.", "Yes."),
        ("<|im_start|>user\nWhat is a <think>?<|im_end|>\n<|im_start|>assistant\n", "Yes.", "Yes."),
        ("x" * 500 + "<|im_start|>assistant\n<think>\n", "Hm.</think>Yes.", "Yes."),
        ("<tool_call>{no json<|im_start|>assistant\n", "Yes.", "Yes."),
        ("", "\n\n Yes.", "Yes."),
    ],
)
@each_kind
def test_reasoning_is_dropped(parsing: Callable[[str], Parsing], kind: str, prompt: str, text: str, words: str) -> None:
    assert parsing(kind).read(text, prompt=prompt) == (words, [])


@each_kind
def test_special_tokens_are_dropped(parsing: Callable[[str], Parsing], kind: str) -> None:
    assert parsing(kind).read("<|im_start|>Yes, <|im_start|>sir.<|im_end|>") == ("Yes, sir.", [])


@each_kind
def test_the_prefix_is_not_repeated(parsing: Callable[[str], Parsing], kind: str) -> None:
    assert parsing(kind).read(" a time.", prefix="Once upon") == (" a time.", [])
    assert parsing(kind).read("", prefix="Once upon") == ("", [])


@pytest.mark.parametrize(
    ("text", "tools", "read"),
    [
        ('{"name": "lookup", "parameters": {"of": "trains"}}', (TOOL,), ("", [CALL])),
        (f"\n[{ASKED}, {ASKED}]", (TOOL,), ("", [CALL, CALL])),
        (ASKED, (), (ASKED, [])),
        ('{"name": "other", "parameters": {}}', (TOOL,), ('{"name": "other", "parameters": {}}', [])),
        ("{a set}", (TOOL,), ("{a set}", [])),
        ("[5]", (TOOL,), ("[5]", [])),
        ("[]", (TOOL,), ("[]", [])),
    ],
)
@each_kind
def test_a_reply_of_bare_json_is_a_call(
    parsing: Callable[[str], Parsing], kind: str, text: str, tools: tuple[Tool, ...], read: Any
) -> None:
    assert parsing(kind).read(text, tools=tools) == read


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (
            "qwen3_5",
            "Wait.\n\n<tool_call>\n<function=lookup>\n<parameter=of>\ntrains\n</parameter>\n</function>\n</tool_call>",
            "Wait.",
        ),
        ("gemma4", 'Wait.<|tool_call>call:lookup{of:<|"|>trains<|"|>}<tool_call|>', "Wait."),
        ("mistral", 'Wait.[TOOL_CALLS]lookup[ARGS]{"of": "trains"}', "Wait."),
        ("mistral", f"[TOOL_CALLS] [{ASKED}]", ""),
        (
            "gpt_oss",
            '<|channel|>commentary<|message|>Wait.<|end|>to=functions.lookup <|constrain|>json<|message|>{"of": "trains"}',
            "Wait.",
        ),
        ("gpt_oss", ' to=functions.lookup<|channel|>commentary json<|message|>{"of": "trains"}<|call|>', ""),
        ("llama", '<|python_tag|>{"name": "lookup", "parameters": {"of": "trains"}}', ""),
    ],
)
def test_each_model_type_has_its_call_format(
    parsing: Callable[[str], Parsing], kind: str, text: str, words: str
) -> None:
    one = parsing("llama" if kind == "mistral" else kind)
    assert one.read(text) == (words, [CALL])
    if kind == "mistral" and words:
        assert one.read(text + "[TOOL_CALLS]lookup[ARGS]{}") == (words, [CALL, ("lookup", {})])
        assert one.read(text[:-3]) == (words, [])


@pytest.mark.parametrize("prompt", ["", "<|start|>user<|message|>Hi<|end|><|start|>assistant"])
def test_only_the_final_channel_is_text(parsing: Callable[[str], Parsing], prompt: str) -> None:
    thought = "<|channel|>analysis<|message|>Hm, hm.<|end|><|start|>assistant"
    text = f"{thought}<|channel|>final<|message|>Yes, sir."
    assert parsing("gpt_oss").read(text, prompt=prompt) == ("Yes, sir.", [])


PARTS = st.sampled_from(["<tool_call>", "</tool_call>", "<think>", "</think>", ASKED, "{", "Hi ", "\n", "<", "é", "🙂"])


@given(st.lists(st.one_of(PARTS, st.sampled_from(SPECIAL)), max_size=12))
@each_kind
def test_no_input_breaks_the_parser(parsing: Callable[[str], Parsing], kind: str, parts: list[str]) -> None:
    words, calls = parsing(kind).read("".join(parts))
    assert all(call == CALL for call in calls)
    assert not any(mark in words for mark in SPECIAL[:4])
