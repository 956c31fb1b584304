"""How a reply ends in the llm stage: complete, cut, or without a word."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from services.llm.engine import EmptyReply, Usage, why_cut
from shared.protocol.frames import ReplyDone
from shared.protocol.session import Message, SessionSettings, ToolCall
from shared.worker.work import JobFailed
from tests.unit.llm.test_stage_tools import Model, Session

Item = str | ToolCall | Usage | EmptyReply


class Ending(Model):
    """Replies with these items each time."""

    def __init__(self, *items: Item) -> None:
        super().__init__()
        self.items, self.asked = items, 0

    async def reply(  # type: ignore[override]  # it counts tokens, too
        self, messages: Sequence[Message], **given: Any
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        self.asked += 1
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


async def cut_of(*items: Item) -> str:
    last = (await Session(SessionSettings()).reply(Ending(*items)))[-1]
    assert isinstance(last, ReplyDone)
    return last.cut


@pytest.mark.parametrize(
    ("finish_reason", "cut"),
    [
        ("", ""),
        ("stop", ""),
        ("tool_calls", ""),
        ("length", "max_output_tokens"),
        ("max_tokens", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
    ],
)
async def test_a_reply_that_was_cut_says_why(finish_reason: str, cut: str) -> None:
    assert why_cut(finish_reason) == cut
    assert await cut_of("We open at nine.", Usage(finish_reason=finish_reason)) == cut


async def test_a_reply_that_the_stage_shortens_is_cut_too() -> None:
    assert await cut_of(*["One more sentence. "] * 200) == "max_output_tokens"


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ((), "empty_reply"),
        ((Usage(finish_reason="stop"),), "empty_reply"),
        ((Usage(finish_reason="length"),), "max_output_tokens"),
        (("<think>Hm.", Usage(finish_reason="content_filter")), "content_filter"),
        ((ToolCall("c", "reserve", "{}"),), "unknown_tool"),
    ],
)
async def test_a_reply_without_a_word_fails_with_its_reason(items: tuple[Item, ...], code: str) -> None:
    model = Ending(*items)
    with pytest.raises(JobFailed) as failed:
        await Session().reply(model)
    assert failed.value.code == code
    assert model.asked == 2


async def test_the_reason_of_an_engine_that_has_asked_again_itself_is_kept() -> None:
    with pytest.raises(JobFailed) as failed:
        await Session().reply(Ending(EmptyReply("filtered", "content_filter")))
    assert failed.value.code == "content_filter"
