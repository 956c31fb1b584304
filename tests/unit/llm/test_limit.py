"""Replies that reach their longest length: they end with a sentence."""

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.engine import Usage
from services.llm.limit import LAST_TOKENS, ROOM_TOKENS, SentenceLimit, end_with_a_sentence

SENTENCE = "Here are ten words that make up one single sentence. "
LONG = "and then it goes on " * 40


async def passed(text: str, limit: int, *, counts: bool = True, begun: str = "", reason: str = "length") -> str:
    """What is passed on of a model that writes this text, a word to a token, and is cut off at the limit."""

    async def model() -> AsyncGenerator[str | Usage, None]:
        usage = Usage(prompt=1)
        if counts:
            yield usage
        words = text[len(begun) :].split(" ")
        for number, word in enumerate(words[:limit]):
            usage.reply += 1
            yield word if number == 0 else f" {word}"
        usage.finish_reason = reason if len(words) > limit else "stop"

    items = [item async for item in end_with_a_sentence(model(), SentenceLimit("en", limit, begun))]
    return "".join(item for item in items if isinstance(item, str))


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("limit", [20, 25, 40, 99, 100, 101, 400])
async def test_a_reply_that_is_too_long_ends_with_a_sentence(limit: int, counts: bool) -> None:
    text = await passed(SENTENCE * 100, limit, counts=counts)
    assert text.endswith("one single sentence.")
    assert limit * 0.8 - ROOM_TOKENS - 10 <= len(text.split()) <= limit  # characters may count for more tokens


@pytest.mark.parametrize("ending", ["sentence.", "sentence", "sentence, you know"])
@pytest.mark.parametrize("sentences", [1, 4, 9])
async def test_a_reply_that_fits_is_passed_on_as_it_is(ending: str, sentences: int) -> None:
    text = SENTENCE * sentences + f"This is the last {ending}"
    assert await passed(text, 200) == text


async def test_a_single_sentence_that_is_too_long_is_cut_off_where_the_model_was() -> None:
    assert await passed(LONG, 100) == " ".join(LONG.split(" ")[:100])


async def test_a_long_sentence_near_the_end_is_left_out() -> None:
    assert await passed(SENTENCE * 5 + LONG, 100) == (SENTENCE * 5).strip()
    # It began far from the limit, so a part of it has been passed on.
    assert (await passed(SENTENCE * 2 + LONG, 100)).endswith("goes on")


async def test_the_first_words_after_the_last_sentence_are_not_passed_on() -> None:
    text = await passed(f"{'word ' * 84}give it to me. Next it {LONG}", 100)
    assert text.endswith("give it to me.")


async def test_a_reply_that_ends_with_its_last_token_is_complete() -> None:
    text = f"{SENTENCE * 7}{'and on ' * 14}to the end."
    assert len(text.split()) == 101
    assert await passed(text, 101) == text


async def test_a_second_attempt_passes_on_what_the_first_left() -> None:
    limit = 100
    whole = await passed(SENTENCE * 20, limit)
    begun = whole[:200]
    assert begun + await passed(SENTENCE * 20, limit - len(begun.split()), begun=begun) in SENTENCE * 20


async def test_the_model_is_stopped_at_the_last_sentence() -> None:
    closed = []

    async def model() -> AsyncGenerator[str | Usage, None]:
        try:
            while True:
                yield SENTENCE
        finally:
            closed.append(True)

    items = [item async for item in end_with_a_sentence(model(), SentenceLimit("en", 100))]
    assert closed == [True]
    assert len("".join(item for item in items if isinstance(item, str))) <= 100 * 5
    (usage,) = [item for item in items if isinstance(item, Usage)]
    assert usage.finish_reason == "length"


@given(
    st.lists(
        st.sampled_from(["one", "two.", "three!", "Dr.", "3.5", "?", '"yes."', "\n", "so,", "A", "e.g."]), max_size=160
    ),
    st.integers(1, 120),
)
async def test_what_is_passed_on_is_a_beginning_of_the_reply(words: list[str], limit: int) -> None:
    text = " ".join(words)
    got = await passed(text, limit)
    assert text.startswith(got)
    if len(words) <= limit - LAST_TOKENS:
        assert got == text
