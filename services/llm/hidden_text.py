"""What a model writes and nobody should hear: thoughts, tool calls as text, and the marks of channels and turns. Pure.

Servers and local engines remove most of it, each in its own way and not for every model. This reader takes the text of
any of them. It knows the marks of the usual model families, wherever the deltas cut them.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import regex
import structlog

from services.llm.written_calls import json_calls, written_calls
from shared.protocol.session import ToolCall

T = TypeVar("T")
log = structlog.get_logger()

_TAGS = r"(?:seed:)?think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|inner_monologue|monologue"
_BAR = "[|\uff5c]"  # DeepSeek writes a wide bar
_SPOKEN = r"assistant|model|ai|bot"

# Each kind of hidden text: its opening mark, and the mark that ends it. Without the end, the rest of the reply is hidden.
_THOUGHTS = {
    "tag": (rf"<(?:{_TAGS})(?:\s+[\w-]{{1,20}}=[^<>]{{0,60}})?\s*>", rf"</(?:{_TAGS})\s*>"),
    "bracket": (r"\[THINK\]", r"\[/THINK\]"),
    "kimi": ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "begin": (rf"<{_BAR}begin_of_thought{_BAR}>", rf"<{_BAR}end_of_thought{_BAR}>"),
    "harmony": (r"<\|channel\|>\s*analysis[^<>]{0,60}<\|message\|>", r"<\|(?:end|return)\|>"),
    "gemma": (r"<\|channel>\s*(?:thought|analysis)\n?", r"<channel\|>"),
}
_CALLS = {
    "call": (
        r"<(?:tool_calls?|function_?calls?|(?:antml:)?function_calls)>",
        r"</(?:tool_calls?|(?:antml:)?function_?calls?)>",
    ),
    "function": (r"(?=<function=[\w.-]{1,64}>|<invoke\s[^<>]{1,100}>)", r"(?<=</function>|</invoke>)"),
    "mistral": (r"\[TOOL_CALLS\]", r"(?!)"),
    "python": (r"<\|python_tag\|>", r"<\|e(?:om|ot)_id\|>"),
    "gemma_call": (r"<\|tool_call>", r"<tool_call\|>"),
    "deepseek": (rf"<{_BAR}tool.calls?.begin{_BAR}>", rf"<{_BAR}tool.calls.end{_BAR}>"),
    "harmony_call": (
        r"<\|(?:channel\|>\s*commentary|start\|>\s*assistant)\s+(?=to=functions\.[\w.-]{1,64})",
        r"<\|call\|>",
    ),
}
_OTHER_TURN = (
    r"<\|im_start\|>\s*(?:user|system|tool)\b",
    r"<\|start_header_id\|>\s*(?:user|system|tool|ipython)\b",
    r"<start_of_turn>\s*user\b",
    r"<\|start\|>\s*(?:user|system|developer|tool|functions)\b",
    r"<\|(?:user|system|observation)\|>",
    r"\[INST\]",
)
"""After these the model plays somebody else."""
_LONGER = rf"(?:channel|start|im_start|start_header_id){_BAR}"
"""Beginnings of longer marks: what follows decides."""
_MARKS = (
    rf"<\|im_start\|>\s*(?:{_SPOKEN})\b\s?",
    rf"<\|start_header_id\|>\s*(?:{_SPOKEN})\s*<\|end_header_id\|>\s?",
    rf"<start_of_turn>\s*(?:{_SPOKEN})\b\s?",
    rf"<\|start\|>\s*(?:{_SPOKEN})\b",
    r"<\|channel\|>\s*(?:final|commentary)[^<>]{0,40}<\|message\|>",
    r"<\|channel>\s*(?:final|response)\n?",
    r"</tool_calls?>",
    rf"<{_BAR}(?!{_LONGER})[A-Za-z][\w\u2581. ]{{0,40}}{_BAR}>",
    r"</?s>|<(?:end_of_turn|turn\||channel\||eos|bos|pad)>|\[/INST\]",
)
_FLAGS = regex.IGNORECASE | regex.DOTALL
_ENDS = {kind: regex.compile(end, _FLAGS) for kind, (_, end) in (_THOUGHTS | _CALLS).items()}
_STRAY_END = "(?P<end>" + "|".join(_THOUGHTS[kind][1] for kind in ("tag", "bracket", "kimi", "begin")) + ")"
_THOUGHT_BEGINS = [f"(?P<{kind}>{begin})" for kind, (begin, _) in _THOUGHTS.items()]
_THOUGHT_MARK = regex.compile("|".join((*_THOUGHT_BEGINS, _STRAY_END)), _FLAGS)
_MARK = regex.compile(
    "|".join(
        (
            *_THOUGHT_BEGINS,
            *(f"(?P<{kind}>{begin})" for kind, (begin, _) in _CALLS.items()),
            _STRAY_END,
            f"(?P<other>{'|'.join(_OTHER_TURN)})",
            f"(?P<mark>{'|'.join(_MARKS)})",
        )
    ),
    _FLAGS,
)
_FIRST = regex.compile("[<\\[\u25c1]")
"""How every mark begins."""
_BARE_CALL = regex.compile(
    r"(?:```(?:json|tool_code|python)?\s*)?(?:\{\s*\"|\[\s*(?:\{|[A-Za-z_]\w{0,63}\())", regex.IGNORECASE
)
"""How a reply begins that may be nothing but tool calls."""
LONGEST_MARK = 100
LONGEST_CALL = 100_000
"""Characters. A longer call is given up."""


@dataclass(slots=True)
class ThoughtHabit:
    """Whether a model begins each reply with a thought whose opening mark stands in its chat template, not in its text."""

    opens: bool | None = None
    """None: not known yet. Then a reply is held until its first mark, or its end."""

    def learn(self, text: str, *, whole: bool) -> None:
        """Learn from a reply; `whole`: it was not cut off."""
        reader = HiddenText(self)
        reader.feed(text)
        if whole:
            reader.finish()


class HiddenText:
    """Takes the deltas of one reply, and returns the text to be heard, and the tool calls."""

    def __init__(self, habit: ThoughtHabit | None = None, *, begun: bool = False) -> None:
        """`habit`: of the model; None: its text has all marks. `begun`: an earlier attempt has published the beginning."""
        self._habit = habit or ThoughtHabit(opens=False)
        self._text = ""  # not decided yet
        self._begun = begun
        self._inside = ""  # the kind of hidden text that has begun
        self._is_over = False
        self._holds = not begun and self._habit.opens is None
        self._may_be_call = not begun
        self._unproven = not begun and self._habit.opens is True  # the thought that the template opened has not ended
        if self._unproven:
            self._inside = "tag"

    def feed(self, delta: str) -> list[str | ToolCall]:
        """Return what this delta makes certain."""
        self._text += delta
        return self._read(final=False)

    def finish(self) -> list[str | ToolCall]:
        """Return the rest at the end of the reply. A thought that has no end is not part of it."""
        found = self._read(final=True)
        if self._unproven:
            self._habit.opens = None
        return found

    def _read(self, *, final: bool) -> list[str | ToolCall]:
        found: list[str | ToolCall] = []
        while not self._is_over and self._step(found, final=final):
            pass
        if self._is_over:
            self._text = ""
        return found

    def _step(self, found: list[str | ToolCall], *, final: bool) -> bool:
        """Decide on a part of the text. Returns whether more of it may be decided."""
        if self._inside:
            return self._skip(found, final=final)
        if self._holds and not self._decide_start(final=final):
            return False
        if self._may_be_call and not self._decide_call(found, final=final):
            return False
        mark = _MARK.search(self._text, partial=not final) if _FIRST.search(self._text) else None
        self._pass(found, mark.start() if mark else len(self._text))
        if mark is None or mark.partial:
            return False
        self._text = self._text[mark.end() - mark.start() :]
        kind = str(mark.lastgroup)
        if kind == "other":
            self._is_over = True
        elif kind == "end":
            self._habit.opens = True  # too late for this reply
        elif kind != "mark":
            self._inside = kind
        return True

    def _pass(self, found: list[str | ToolCall], end: int) -> None:
        text, self._text = self._text[:end], self._text[end:]
        if not self._begun:
            text = text.lstrip()
        if text:
            self._begun = True
            found.append(text)

    def _skip(self, found: list[str | ToolCall], *, final: bool) -> bool:
        """Look for the end of the hidden text."""
        end = _ENDS[self._inside].search(self._text)
        is_call = self._inside in _CALLS
        if end is None and not final and len(self._text) <= LONGEST_CALL:
            if not is_call:
                self._text = self._text[-LONGEST_MARK:]
            return False
        if is_call:
            found += _readable(self._text[: end.start() if end else None])
        self._unproven = self._unproven and end is None
        self._text = self._text[end.end() :] if end else ""
        self._inside = ""
        return True

    def _decide_start(self, *, final: bool) -> bool:
        """Decide whether the reply began inside a thought. Returns whether that is known."""
        mark = _THOUGHT_MARK.search(self._text)
        if mark is None and not final:
            return False
        self._holds = False
        self._habit.opens = mark is not None and mark.lastgroup == "end"
        if mark is not None and self._habit.opens:
            self._text = self._text[mark.end() :]
        return True

    def _decide_call(self, found: list[str | ToolCall], *, final: bool) -> bool:
        """Decide whether the reply is nothing but tool calls, without marks. Returns whether that is known."""
        start = self._text.lstrip()
        begin = _BARE_CALL.match(start, partial=not final)
        if begin is not None and not final and len(start) <= LONGEST_CALL:
            return False
        self._may_be_call = False
        if begin is not None and (calls := json_calls(start)):
            found += calls
            self._text = ""
        return True


def _readable(written: str) -> list[ToolCall]:
    if not (calls := written_calls(written)):
        log.warning("tool call could not be read", characters=len(written))
    return calls


async def without_hidden_text(
    deltas: AsyncGenerator[str | T, None], reader: HiddenText
) -> AsyncGenerator[str | ToolCall | T, None]:
    """Pass a model's deltas on without what nobody should hear; tool calls that it wrote as text become calls."""
    async with aclosing(deltas):
        async for delta in deltas:
            if isinstance(delta, str):
                for piece in reader.feed(delta):
                    yield piece
            else:
                yield delta
    for piece in reader.finish():
        yield piece
