"""The scripted chat model yields its script in the configured number of deltas, after its delay."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.engines.scripted import ScriptedModel
from shared.settings import Settings


async def reply(settings: Settings, prefix: str = "") -> list[str]:
    return [delta async for delta in ScriptedModel(settings).reply((), language="en", prefix=prefix)]


@pytest.mark.parametrize("count", [1, 2, 7, 20])
async def test_the_script_comes_in_the_configured_number_of_deltas(count: int) -> None:
    settings = Settings(scripted_deltas=count)
    deltas = await reply(settings)
    assert len(deltas) == count
    assert "".join(deltas) == settings.scripted_text


async def test_a_text_shorter_than_its_deltas_is_complete() -> None:
    assert "".join(await reply(Settings(scripted_text="abc", scripted_deltas=10))) == "abc"


@given(st.text(max_size=40), st.integers(1, 30), st.data())
def test_a_reply_continues_exactly_after_a_prefix(text: str, count: int, data: st.DataObject) -> None:
    settings = Settings(scripted_text=text, scripted_deltas=count)
    prefix = text[: data.draw(st.integers(0, len(text)))]
    assert prefix + "".join(asyncio.run(reply(settings, prefix))) == text


async def test_a_foreign_prefix_ends_the_reply() -> None:
    assert await reply(Settings(scripted_text="abc"), "x") == []


async def test_the_first_delta_waits_for_its_delay() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await reply(Settings(scripted_llm_ms=50))
    assert 0.05 <= loop.time() - begun < 0.5
