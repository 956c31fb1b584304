"""The chat model behind an endpoint, against a real HTTP server that works, fails, or does not respond."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.llm.engine import ENGINES, EmptyReply, PromptTooLong, Usage
from services.llm.engines.llama_server import load_library
from services.llm.engines.openai import OpenAIModel
from services.llm.engines.openai_chat import REFUSALS, WARM_UP, WARM_UP_TOKENS
from services.llm.engines.repeated_prefix import RepeatedPrefix
from shared.engines.endpoints import OUTCOMES, EndpointFailed
from shared.engines.registry import EngineNotReady, UnknownEngine, create_engine
from shared.protocol.session import Message, Tool, ToolCall
from shared.settings import Settings
from tests.support.light_models import light_model
from tests.support.openai_server import (
    Answer,
    Cut,
    OpenAIServer,
    call,
    chunk,
    error,
    free_port_url,
    openai_server,
    said,
)
from tests.support.waiting import HANG_S

HELLO = (Message("system", "Be brief.", 0), Message("user", "hello", 1))
PREFIX = "Once upon a time"
CHAT = "/v1/chat/completions"
QUICK: dict[str, Any] = {"first_token_s": 1.0, "next_token_s": 1.0}
NEVER_S = 300.0


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        yield running


@pytest.fixture
async def fallback() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        running.replies = deque([said("From the fallback.")])
        yield running


@asynccontextmanager
async def loaded(url: str, **given: Any) -> AsyncIterator[OpenAIModel]:
    model = create_engine("llm", "openai", ENGINES, Settings(**{"llm_url": url, **given}))
    assert isinstance(model, OpenAIModel)
    try:
        await model.load()
        yield model
    finally:
        await model.close()


async def replied(model: OpenAIModel, prefix: str = "", tools: Sequence[Tool] = ()) -> list[str | ToolCall]:
    async with (
        asyncio.timeout(HANG_S),
        aclosing(model.reply(HELLO, language="en", prefix=prefix, tools=tools)) as pieces,
    ):
        return [piece async for piece in pieces if not isinstance(piece, Usage)]


async def usage_of(model: OpenAIModel) -> Usage:
    """Return the usage of a reply."""
    async with asyncio.timeout(HANG_S), aclosing(model.reply(HELLO, language="en")) as pieces:
        (usage,) = [piece async for piece in pieces if isinstance(piece, Usage)]
    return usage


def requests(endpoint: str, outcome: str) -> float:
    """Return the number of requests with this outcome so far."""
    labels = {"stage": "llm", "endpoint": endpoint, "outcome": outcome}
    return REGISTRY.get_sample_value("parley_endpoint_requests_total", labels) or 0.0


async def reply(server: OpenAIServer, *answers: Answer, prefix: str = "", **given: Any) -> list[str | ToolCall]:
    server.replies = deque(answers)
    async with loaded(server.url, **given) as model:
        return await replied(model, prefix)


async def test_deltas_are_passed_on_unchanged(server: OpenAIServer) -> None:
    assert await reply(server, said("Well", ", ", "hello \u00fc\U0001f600", "!"), reply_tokens=7, temperature=0.1) == [
        "Well",
        ", ",
        "hello \u00fc\U0001f600",
        "!",
    ]
    (asked,) = server.requests(CHAT)
    assert asked == {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "temperature": 0.1,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
    }


async def test_deltas_are_not_buffered(server: OpenAIServer) -> None:
    server.replies = deque([said("first", NEVER_S, "late")])
    async with loaded(server.url, next_token_s=NEVER_S) as model, asyncio.timeout(HANG_S):
        pieces = model.reply(HELLO, language="en")
        assert await anext(pieces) == "first"
        await pieces.aclose()


async def test_concurrent_replies_do_not_mix(server: OpenAIServer) -> None:
    server.replies = deque([said(str(number), 0.02, f"{number}!") for number in range(8)])
    async with loaded(server.url) as model, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(replied(model)) for _ in range(8)]
    texts = sorted("".join(map(str, task.result())) for task in running)
    assert texts == [f"{number}{number}!" for number in range(8)]


# ---- what was said before


async def test_the_request_has_the_format_of_the_protocol(server: OpenAIServer) -> None:
    messages = (
        Message("user", "Weather?", 1),
        Message("user", "In Rome.", 1),
        Message("assistant", "", 1, calls=(ToolCall("c1", "weather", '{"city":"Rome"}'), ToolCall("c2", "now", ""))),
        Message("tool", "sunny", 1, answers="c1"),
        Message("assistant", "Sunny.", 1),
        Message("system", "(Interrupted.)", 1),
        Message("user", "Thanks", 2),
    )
    tools = (Tool("weather", "What the sky does", '{"type": "object"}'), Tool("now", "", ""))
    async with loaded(server.url) as model:
        _ = [piece async for piece in model.reply(messages, language="en", tools=tools)]
        with pytest.raises(ValueError, match="'broken'"):
            await anext(model.reply(HELLO, language="en", tools=[Tool("broken", "", "{")]))
    (asked,) = server.requests(CHAT)
    assert asked["tools"] == [
        {"type": "function", "function": {"name": name, "description": text, "parameters": schema}}
        for name, text, schema in (("weather", "What the sky does", {"type": "object"}), ("now", "", {}))
    ]
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in (("c1", "weather", '{"city":"Rome"}'), ("c2", "now", "{}"))
    ]
    assert asked["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "user", "content": "In Rome."},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Sunny."},
        {"role": "system", "content": "(Interrupted.)"},
        {"role": "user", "content": "Thanks"},
    ]


# ---- calls of tools


async def test_fragments_of_a_call_become_one(server: OpenAIServer) -> None:
    fragments = [call(0, "", "weather", "c1"), call(0, '{"ci'), call(0, 'ty":"Rome"}'), call(1, "{}", "now", "c2")]
    server.replies = deque([Answer(("One moment.", *fragments), "tool_calls")])
    async with loaded(server.url) as model:
        assert await replied(model) == [
            "One moment.",
            ToolCall("c1", "weather", '{"city":"Rome"}'),
            ToolCall("c2", "now", "{}"),
        ]


async def test_calls_with_the_same_index_are_separated_by_id(server: OpenAIServer) -> None:
    calls = await reply(server, said(call(0, '{"a":1}', "one", "x"), call(0, "", "two", "y")))
    assert calls == [ToolCall("x", "one", '{"a":1}'), ToolCall("y", "two", "{}")]


async def test_a_call_without_an_id_gets_one(server: OpenAIServer) -> None:
    calls = await reply(server, said(call(0, "{}", "one"), call(1, "{}", "two", "")))
    ids = {piece.id for piece in calls if isinstance(piece, ToolCall)}
    assert len(ids) == 2
    assert "" not in ids


async def test_an_incomplete_call_is_dropped(server: OpenAIServer) -> None:
    server.replies = deque([said("Wait.", call(0, '{"ci', "weather", "c1"), 0.05, Cut)])
    async with loaded(server.url) as model, aclosing(model.reply(HELLO, language="en")) as pieces:
        assert await anext(pieces) == "Wait."
        with pytest.raises(EndpointFailed):
            await anext(pieces)


async def test_malformed_fragments_are_ignored(server: OpenAIServer) -> None:
    fragments: list[Any] = [None, [], [{}], ["x"], [{"index": 0, "function": None}]]
    odd = [{"tool_calls": value} for value in fragments]
    pieces = await reply(server, said(*odd, {"content": None}, {"content": ["x"]}, {}, "Fine."))
    assert pieces == ["Fine."]


# ---- what is not said


@pytest.mark.parametrize(
    "deltas",
    [
        ["<think>Hm.</think>\n\nYes."],
        ["<th", "ink>", "long " * 50, "</th", "ink>", "\n", " Yes."],
        [" \n<think>\n</think>", "Yes."],
        [{"reasoning_content": "Hm."}, {"reasoning": "Hm."}, {"role": "assistant", "content": ""}, "Yes."],
    ],
)
async def test_reasoning_is_dropped(server: OpenAIServer, deltas: list[Any]) -> None:
    assert "".join(map(str, await reply(server, said(*deltas)))) == "Yes."


@pytest.mark.parametrize("text", ["<this> is", "<thin", "I <think so.", "<", "<thinker>"])
async def test_text_like_reasoning_is_kept(server: OpenAIServer, text: str) -> None:
    assert "".join(map(str, await reply(server, said(*text)))) == text


THOUGHTS = [
    said(),
    said({"role": "assistant"}),
    said("\n "),
    said("<think>I should ", "say"),
    said("<think>Hm.</think>"),
]


@pytest.mark.parametrize("empty", THOUGHTS)
async def test_a_reply_without_words_is_asked_for_again(server: OpenAIServer, empty: Answer) -> None:
    server.replies = deque([empty, said("At nine.")])
    async with loaded(server.url) as model:
        assert "".join(map(str, await replied(model))) == "At nine."
    assert len(server.requests(CHAT)) == 2


async def test_a_fallback_answers_where_the_first_endpoint_says_nothing(server: OpenAIServer) -> None:
    server.replies = deque([said()])
    async with openai_server() as other, loaded(server.url, llm_fallback_url=other.url) as model:
        assert "".join(map(str, await replied(model))) == "Hello there."
        other.replies = deque([said("<think>Hm.")])
        with pytest.raises(EmptyReply, match=r"no words \(finish_reason: stop\)"):
            await replied(model)
    assert len(server.requests(CHAT)) == 4
    assert len(other.requests(CHAT)) == 2


FILTERED = {"error": {"message": "The prompt was filtered.", "code": "content_filter"}}


@pytest.mark.parametrize(
    ("silent", "code"),
    [
        (Answer(({"role": "assistant"},), "length"), "max_output_tokens"),
        (Answer(({"role": "assistant"},), "content_filter"), "content_filter"),
        (Answer((call(0, '{"ci', "weather", "c"),), "length"), "max_output_tokens"),
        (Answer(status=400, body=FILTERED), "content_filter"),
        (said("<think>Hm.</think>"), "empty_reply"),
    ],
)
async def test_the_reason_of_a_silent_reply_is_known_after_all_endpoints_were_asked(
    server: OpenAIServer, fallback: OpenAIServer, silent: Answer, code: str
) -> None:
    server.replies = fallback.replies = deque([silent])
    async with loaded(server.url, llm_fallback_url=fallback.url) as model:
        with pytest.raises(EmptyReply) as failed:
            await replied(model)
    assert failed.value.code == code
    refused = silent.status == 400  # of the request itself: the same endpoint would refuse it again
    assert (len(server.requests(CHAT)), len(fallback.requests(CHAT))) == (1 if refused else 2, 1)


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_a_cut_reply_says_why(server: OpenAIServer, finish: str) -> None:
    server.replies = deque([Answer(("We open",), finish)])
    async with loaded(server.url) as model:
        assert (await usage_of(model)).finish_reason == finish


async def test_a_filter_in_the_middle_of_a_stream_cuts_the_reply(server: OpenAIServer) -> None:
    event = b"data: " + json.dumps(FILTERED).encode() + b"\n\n"
    server.replies = deque([Answer(("We open", event), finish=None)])
    async with loaded(server.url) as model:
        assert await replied(model) == ["We open"]
        assert (await usage_of(model)).finish_reason == "content_filter"


async def test_a_refusal_is_heard(server: OpenAIServer) -> None:
    assert await reply(server, said({"refusal": "I cannot help with that."})) == ["I cannot help with that."]


LATE = said("Hours, then. Be brief.", "\n</th", "ink>\nWe open", " at nine.")


async def test_a_thought_that_the_template_opened_is_not_heard(server: OpenAIServer) -> None:
    """The first answer, at the start, has shown it; or the first reply does."""
    server.replies = deque([LATE])
    for content in ("Hm.\n</think>\nYes.", ""):
        server.warm_up = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
        async with loaded(server.url) as model:
            for _ in range(3):
                assert "".join(map(str, await replied(model))) == "We open at nine."


async def test_a_model_that_does_not_think_is_streamed_from_its_first_word(server: OpenAIServer) -> None:
    assert await reply(server, said("We open", " at nine.")) == ["We open", " at nine."]


async def test_a_reply_beyond_the_limit_is_cut_off(server: OpenAIServer) -> None:
    pieces = await reply(server, said("x" * 1_000_000, *["y" * 1000] * 5), reply_tokens=10)
    assert pieces == ["x" * 160]


# ---- going on after a prefix


async def test_a_reply_continues_after_a_prefix(server: OpenAIServer) -> None:
    assert await reply(server, said(" there", " was"), prefix=PREFIX) == [" there", " was"]
    (asked,) = server.requests(CHAT)
    assert asked["messages"][-1] == {"role": "assistant", "content": PREFIX}
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize(
    "deltas",
    [
        ["Once upon", " a time", " there was"],
        ["Once upon a time there was"],
        [*"Once upon a time there was"],
        ["<think>again</think>Once ", "upon a time there was"],
    ],
)
async def test_a_repeated_prefix_is_dropped(server: OpenAIServer, deltas: list[str]) -> None:
    assert "".join(map(str, await reply(server, said(*deltas), prefix=PREFIX))) == " there was"


async def test_a_reply_of_only_the_prefix_adds_nothing(server: OpenAIServer) -> None:
    assert await reply(server, said("Once upon", " a time"), prefix=PREFIX) == []


@given(st.text(max_size=20), st.text(max_size=20), st.integers(1, 5), st.booleans())
def test_prefix_and_rest_are_the_whole_reply(prefix: str, rest: str, size: int, restarts: bool) -> None:
    prefix, rest = f"Hello{prefix}.", f"; {rest}"  # a rest that starts like the prefix would be ambiguous
    repeated, text = RepeatedPrefix(prefix), prefix + rest if restarts else rest
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(map(str, (*repeated.drop(pieces), *repeated.finish()))) == rest


async def test_a_space_at_the_end_of_a_prefix_is_not_doubled(server: OpenAIServer) -> None:
    assert await reply(server, said(" there", " was"), prefix=PREFIX + " ") == ["there", " was"]
    assert server.requests(CHAT)[0]["messages"][-1]["content"] == PREFIX


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_cannot_continue_ends_the_reply(server: OpenAIServer, status: int) -> None:
    server.replies = deque([said("Hello."), error(status, "continue_final_message is not known")])
    async with loaded(server.url) as model:
        await replied(model)
        assert await replied(model, PREFIX) == []
    assert len(server.requests(CHAT)) == 2
    assert await reply(server, error(status), prefix=PREFIX) == []


async def test_a_hosted_model_gets_its_own_fields_and_does_not_continue(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))  # the host name stays api.openai.com
    server.replies = deque([said("Hosted.")])
    async with loaded("http://api.openai.com/v1", llm_key="secret", llm_model="tiny") as model:
        assert await replied(model) == ["Hosted."]
        assert await replied(model, PREFIX) == []
    (asked,) = server.requests(CHAT)
    assert asked["max_completion_tokens"] == 400
    assert "max_tokens" not in asked


# ---- failures before the first word


@pytest.mark.parametrize(
    "failure",
    [
        error(500),
        error(503, **{"retry-after": "0"}),
        error(429, **{"retry-after": "nan"}),
        said(Cut),
        said({"role": "assistant"}, b"data: {garbage}\n\n"),
        said(b'data: {"error": {"message": "out of memory"}}\n\n'),
        said(b"data: \xff\xfe\n\n"),
        said({"role": "assistant"}, NEVER_S, "late"),
        said(NEVER_S, "late"),
        said({"reasoning_content": "Hm."}, Cut),
        Answer(("",), None),
        Answer((), None),
        Answer((b"<html><body>Welcome</body></html>\n",), None, headers={"content-type": "text/html"}),
        Answer((b'{"choices": [{"message": {"content": "whole"}}]}',), None),
        Answer((b"data: 1\n\n", b"data: null\n\n", b'data: "x"\n\n', b'data: {"choices": 7}\n\n'), None),
        Answer((b'data: {"choices": [null]}\n\n', b"data: [1]\n\n"), None),
    ],
    ids=lambda answer: f"{answer.status} {answer.steps}"[:40],
)
async def test_a_failure_before_the_first_token_is_retried_once(server: OpenAIServer, failure: Answer) -> None:
    assert await reply(server, failure, said("Here."), **QUICK) == ["Here."]
    assert len(server.requests(CHAT)) == 2


async def test_the_fallback_gets_its_own_model_and_key(server: OpenAIServer, fallback: OpenAIServer) -> None:
    fallback.models = {"data": [{"id": "other"}]}
    more = {"llm_fallback_url": fallback.url, "llm_fallback_model": "other", "llm_fallback_key": "fallback-key"}
    assert await reply(server, error(502), llm_key="main-key", **more) == ["From the fallback."]
    assert len(server.requests(CHAT)) == 2
    (asked,) = fallback.requests(CHAT)
    assert asked["model"] == "other"
    assert server.asked[-1].headers["authorization"] == "Bearer main-key"
    assert fallback.asked[-1].headers["authorization"] == "Bearer fallback-key"


@pytest.mark.parametrize("status", [401, 404])
async def test_a_permanent_error_is_not_retried(server: OpenAIServer, fallback: OpenAIServer, status: int) -> None:
    assert await reply(server, error(status), llm_fallback_url=fallback.url) == ["From the fallback."]
    assert len(server.requests(CHAT)) == 1
    assert fallback.requests(CHAT)[0]["model"] == "tiny"
    with pytest.raises(EndpointFailed, match=f"{status} it went wrong"):
        await reply(server, error(status))


async def test_the_back_off_follows_retry_after_up_to_a_second(server: OpenAIServer) -> None:
    now = asyncio.get_running_loop().time
    for wait, least_s in (("0.4", 0.4), ("3600", 1.0), ("Wed, 21 Oct 2065 07:28:00 GMT", 1.0)):
        server.replies = deque([error(429, **{"retry-after": wait}), said("Here.")])
        async with loaded(server.url) as model:
            begun = now()
            assert await replied(model) == ["Here."]
            assert least_s <= now() - begun


async def test_if_all_fail_the_last_is_named(server: OpenAIServer, fallback: OpenAIServer) -> None:
    fallback.replies = deque([error(500, "also broken")])
    with pytest.raises(EndpointFailed, match=f"{fallback.url}: 500 also broken"):
        await reply(server, error(500), llm_fallback_url=fallback.url)
    assert len(server.requests(CHAT)) == 2
    assert len(fallback.requests(CHAT)) == 1


async def test_a_server_that_dies_is_replaced_by_the_fallback(fallback: OpenAIServer) -> None:
    async with openai_server() as primary:
        model = OpenAIModel(Settings(llm_url=primary.url, llm_fallback_url=fallback.url))
        await model.load()
        assert await replied(model) == ["Hello", " there."]
    assert await replied(model) == ["From the fallback."]
    await model.close()


@pytest.mark.parametrize("status", [400, 422])
async def test_a_bad_request_is_not_sent_to_the_fallback(
    server: OpenAIServer, fallback: OpenAIServer, status: int
) -> None:
    server.replies = deque([said("Hello."), error(status, "no such field")])
    async with loaded(server.url, llm_fallback_url=fallback.url) as model:
        await replied(model)
        with pytest.raises(ValueError, match="no such field"):
            await replied(model)
    assert len(server.requests(CHAT)) == 2
    assert fallback.requests(CHAT) == []


async def test_a_server_without_a_first_token_times_out(server: OpenAIServer) -> None:
    async with loaded(server.url, **QUICK) as model:
        server.replies = deque([said(*(b": keep-alive\n\n", 0.05) * 400)])
        with pytest.raises(EndpointFailed, match="no answer in time"):
            await replied(model)


async def test_empty_chunks_do_not_count_as_a_first_token(server: OpenAIServer) -> None:
    empty = b'data: {"choices": []}\n\n'
    with pytest.raises(EndpointFailed, match="no answer in time"):
        await reply(server, said(*(empty, chunk({}), 0.05) * 400), **QUICK)


async def test_reasoning_counts_as_a_first_token(server: OpenAIServer) -> None:
    thoughts = ({"reasoning_content": "Hm."}, 0.3) * 4
    assert await reply(server, said(*thoughts, "Yes."), **QUICK) == ["Yes."]


# ---- failures after the first word


@pytest.mark.parametrize(
    "end",
    [(Cut,), (b"data: {garbage\n\n",), (b'data: {"error": "gone"}\n\n',), (NEVER_S, "late"), ()],
    ids=["cut", "garbage", "error", "stall", "no end"],
)
async def test_a_failure_after_the_first_token_is_raised(
    server: OpenAIServer, fallback: OpenAIServer, end: tuple[Any, ...]
) -> None:
    server.replies = deque([Answer(("Well", 0.05, *end), None)])
    async with loaded(server.url, llm_fallback_url=fallback.url, **QUICK) as model:
        pieces = model.reply(HELLO, language="en")
        async with aclosing(pieces):
            assert await anext(pieces) == "Well"
            with pytest.raises(EndpointFailed, match=server.url):
                await anext(pieces)
    assert len(server.requests(CHAT)) == 1
    assert fallback.requests(CHAT) == []


async def test_a_slow_consumer_does_not_cause_a_timeout(server: OpenAIServer) -> None:
    server.replies = deque([said("One", 0.05, " two", " three")])
    async with loaded(server.url, **QUICK) as model:
        pieces = []
        async for piece in model.reply(HELLO, language="en"):
            if isinstance(piece, str):
                pieces.append(piece)
                if len(pieces) == 1:
                    await asyncio.sleep(1.1)
    assert pieces == ["One", " two", " three"]


async def test_a_stream_left_open_after_its_end_is_abandoned(server: OpenAIServer) -> None:
    async with loaded(server.url) as model:
        server.replies = deque([Answer((chunk({"content": "Done."}, "stop"), NEVER_S), None)])
        assert await replied(model) == ["Done."]


# ---- a conversation that is too long for the endpoint

Refusal = Callable[[int, int], Answer]
"""Answers a prompt of this many tokens, where the server takes as many as the second number says."""


def status_400(message: str, **details: Any) -> Answer:
    return Answer(status=400, body={"error": {"message": message, "type": "invalid_request_error", **details}})


def in_the_stream(message: str) -> Answer:
    return said(b"event: error\ndata: " + json.dumps({"error": {"message": message}}).encode() + b"\n\n")


REFUSING: dict[str, Refusal] = {
    "OpenAI": lambda asked, window: status_400(
        f"This model's maximum context length is {window} tokens. However, your messages resulted in {asked} tokens.",
        code="context_length_exceeded",
    ),
    "OpenAI, without numbers": lambda asked, window: status_400(
        "Your input exceeds the context window of this model.", code="context_length_exceeded"
    ),
    "vLLM": lambda asked, window: status_400(
        f"This model's maximum context length is {window} tokens. However, you requested {asked + 400} tokens ({asked} in the "
        "messages, 400 in the completion)."
    ),
    "llama.cpp": lambda asked, window: status_400(
        "the request exceeds the available context size",
        type="exceed_context_size_error",
        n_prompt_tokens=asked,
        n_ctx=window,
    ),
    "Ollama": lambda asked, window: status_400(
        f"prompt too long; exceeded max context length by {asked - window} tokens"
    ),
    "LM Studio": lambda asked, window: in_the_stream(
        f"Trying to keep the first {asked} tokens when context the overflows. However, the model is loaded with context "
        f"length of only {window} tokens, which is not enough."
    ),
    "a proxy": lambda asked, window: Answer(status=413, body={"detail": "Payload Too Large"}),
}
REPLY_TOKENS = 100
LONG = (
    Message("system", "Be brief.", 0),
    *(Message(role, f"{turn} {role} " + "word " * 12, turn) for turn in range(1, 60) for role in ("user", "assistant")),
    Message("user", "And now?", 60),
)


def narrow(window: int, refusal: Refusal, per_token: float = 3.0) -> Callable[[dict[str, Any]], Answer | None]:
    """A server whose prompts and replies have at most this many tokens."""

    def refuse(body: dict[str, Any]) -> Answer | None:
        asked = round(sum(len(one["content"]) + 12 for one in body["messages"]) / per_token)
        return refusal(asked, window) if asked + body["max_tokens"] > window else None

    return refuse


async def long_reply(model: OpenAIModel, messages: Sequence[Message] = LONG, prefix: str = "") -> tuple[str, Usage]:
    text, usage = "", Usage()
    async with asyncio.timeout(HANG_S), aclosing(model.reply(messages, language="en", prefix=prefix)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Usage):
                usage = piece
            else:
                text += str(piece)
    return text, usage


@pytest.mark.parametrize("kind", REFUSING)
async def test_a_refused_prompt_is_shortened_within_the_turn(server: OpenAIServer, kind: str) -> None:
    server.refuse = narrow(1000, REFUSING[kind])
    async with loaded(server.url, reply_tokens=REPLY_TOKENS) as model:
        text, usage = await long_reply(model)
        first = len(server.requests(CHAT))
        assert (text, usage.left_out.refusals) == ("Hello there.", first - 1)
        assert first <= 1 + REFUSALS
        await long_reply(model)
        assert len(server.requests(CHAT)) <= first + 1  # what was learned stays
    sent = server.requests(CHAT)[-1]["messages"]
    assert sent[0] == {"role": "system", "content": "Be brief."}
    assert sent[-1] == {"role": "user", "content": "And now?"}
    assert sent[1]["role"] == "user"
    assert sent[1:] == [{"role": one.role, "content": one.text} for one in LONG[-len(sent) + 1 :]]
    assert usage.left_out.turns == (len(LONG) - len(sent)) // 2


@pytest.mark.parametrize("name", ["max_model_len", "context_length", "context_window", "max_context_length"])
async def test_a_window_in_the_list_of_models_is_kept_from_the_first_request_on(
    server: OpenAIServer, name: str
) -> None:
    server.models = {"data": [{"id": "tiny", name: 1000}]}
    server.refuse = narrow(1000, REFUSING["vLLM"], per_token=4.5)
    async with loaded(server.url, reply_tokens=REPLY_TOKENS) as model:
        _, usage = await long_reply(model)
    assert len(server.requests(CHAT)) == 1
    assert usage.window == 1000 - REPLY_TOKENS
    assert usage.left_out.turns > 0


async def test_the_reported_tokens_correct_the_estimate(server: OpenAIServer) -> None:
    server.models = {"data": [{"id": "tiny", "max_model_len": 1000}]}
    asked = round(sum(len(one.text) + 12 for one in LONG[:9]) / 1.5)
    server.replies = deque([Answer(("Yes.",), usage={"prompt_tokens": asked})])
    server.refuse = narrow(1000, REFUSING["OpenAI, without numbers"], per_token=1.5)
    async with loaded(server.url, reply_tokens=REPLY_TOKENS) as model:
        await long_reply(model, LONG[:9])
        _, usage = await long_reply(model)
    assert usage.left_out.refusals == 0
    assert len(server.requests(CHAT)) == 2


async def test_a_last_turn_that_is_too_long_is_an_error_with_the_servers_words(server: OpenAIServer) -> None:
    server.refuse = narrow(300, REFUSING["vLLM"])
    async with loaded(server.url, reply_tokens=REPLY_TOKENS) as model:
        with pytest.raises(PromptTooLong, match="maximum context length is 300"):
            await long_reply(model, (*LONG, Message("user", "word " * 500, 61)))
        assert (await long_reply(model))[0] == "Hello there."


async def test_a_server_that_refuses_whatever_it_gets_is_given_up(server: OpenAIServer) -> None:
    server.refuse = lambda body: REFUSING["Ollama"](5000, 10)
    async with loaded(server.url) as model:
        with pytest.raises(PromptTooLong, match="prompt too long"):
            await long_reply(model)
    assert len(server.requests(CHAT)) <= 1 + REFUSALS


async def test_a_fallback_with_a_larger_window_answers(server: OpenAIServer, fallback: OpenAIServer) -> None:
    server.refuse = narrow(300, REFUSING["vLLM"])
    async with loaded(server.url, llm_fallback_url=fallback.url, reply_tokens=REPLY_TOKENS) as model:
        assert (await long_reply(model, (Message("user", "word " * 500, 61),)))[0] == "From the fallback."


async def test_a_continued_reply_is_shortened_too(server: OpenAIServer) -> None:
    server.refuse = narrow(1000, REFUSING["vLLM"])
    server.replies = deque([said(" there was")])
    async with loaded(server.url, reply_tokens=REPLY_TOKENS) as model:
        assert (await long_reply(model, prefix=PREFIX))[0] == " there was"


# ---- what a reply takes

USAGE = {"prompt_tokens": 30, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 16}}


async def test_usage_comes_last(server: OpenAIServer) -> None:
    server.replies = deque([Answer(("Well,", " yes."), usage=USAGE)])
    async with loaded(server.url) as model:
        pieces = [piece async for piece in model.reply(HELLO, language="en")]
    assert pieces == ["Well,", " yes.", Usage(30, 16, 5, "stop")]


@pytest.mark.parametrize(
    ("reported", "counted"),
    [
        ({}, Usage()),
        ({"prompt_tokens": 7, "completion_tokens": None}, Usage(7)),
        ({"prompt_tokens": -7, "completion_tokens": 1.5}, Usage()),
        ({"prompt_tokens": "many", "completion_tokens": [5], "prompt_tokens_details": 3}, Usage()),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 31}}, Usage(30, 30, 5)),
        ({**USAGE, "prompt_tokens_details": None}, Usage(30, 0, 5)),
    ],
)
async def test_malformed_usage_is_ignored(server: OpenAIServer, reported: dict[str, Any], counted: Usage) -> None:
    server.replies = deque([Answer(("Yes.",), "length", usage=reported)])
    async with loaded(server.url) as model:
        assert await usage_of(model) == replace(counted, finish_reason="length")


async def test_running_totals_are_not_added_up(server: OpenAIServer) -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"completion_tokens": n}} for n in (1, 2)]
    server.replies = deque([said(*(f"data: {json.dumps(one)}\n\n".encode() for one in chunks))])
    async with loaded(server.url) as model:
        assert await usage_of(model) == Usage(reply=2, finish_reason="stop")


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_rejects_stream_options_is_not_asked_again(server: OpenAIServer, status: int) -> None:
    server.replies = deque([error(status, "Extra inputs are not permitted"), said("Here.")])
    async with loaded(server.url) as model:
        assert await replied(model) == ["Here."]
        assert await replied(model) == ["Here."]
    assert ["stream_options" in asked for asked in server.requests(CHAT)] == [True, False, False]


async def test_a_server_that_reported_usage_once_is_always_asked(server: OpenAIServer) -> None:
    server.replies = deque([said("One."), error(400), said("Two.")])
    async with loaded(server.url) as model:
        await replied(model)
        with pytest.raises(ValueError, match="400"):
            await replied(model)
        assert await replied(model) == ["Two."]
    assert all("stream_options" in asked for asked in server.requests(CHAT))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (error(500), "failed"),
        (error(429, **{"retry-after": "0"}), "limited"),
        (error(401), "refused"),
        (error(504), "timeout"),
        (said(NEVER_S, "late"), "timeout"),
        (said(Cut), "failed"),
    ],
)
async def test_requests_are_counted_by_outcome(
    server: OpenAIServer, fallback: OpenAIServer, answer: Answer, outcome: str
) -> None:
    first, done, fell = requests("first", outcome), requests("first", "done"), requests("fallback", "done")
    assert await reply(server, answer, llm_fallback_url=fallback.url, **QUICK) == ["From the fallback."]
    assert requests("first", outcome) - first == len(server.requests(CHAT))
    assert requests("first", "done") == done
    assert requests("fallback", "done") - fell == 1


async def test_a_cancelled_reply_is_not_a_failure(server: OpenAIServer) -> None:
    before = {outcome: requests("first", outcome) for outcome in OUTCOMES}
    server.replies = deque([said("Well", NEVER_S, "late")])
    async with loaded(server.url, next_token_s=60) as model, aclosing(model.reply(HELLO, language="en")) as pieces:
        assert await anext(pieces) == "Well"
    after = {outcome: requests("first", outcome) for outcome in OUTCOMES}
    assert after == {**before, "cancelled": before["cancelled"] + 1}


# ---- leaving


async def test_closing_the_reply_closes_the_stream(server: OpenAIServer) -> None:
    server.replies = deque([said("Well", NEVER_S, "late")])
    async with loaded(server.url, next_token_s=60) as model:
        async with aclosing(model.reply(HELLO, language="en")) as pieces:
            assert await anext(pieces) == "Well"
            assert not server.left.is_set()
        await asyncio.wait_for(server.left.wait(), HANG_S)


@pytest.mark.parametrize("steps", [(NEVER_S, "late"), ("Well", NEVER_S, "late")])
async def test_cancelling_the_reply_closes_the_stream(server: OpenAIServer, steps: tuple[Any, ...]) -> None:
    server.replies = deque([said(*steps)])
    async with loaded(server.url, first_token_s=NEVER_S, next_token_s=NEVER_S) as model:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(replied_forever(model))
            while not server.requests(CHAT):
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            running.cancel()
        await asyncio.wait_for(server.left.wait(), HANG_S)
    assert running.cancelled()
    assert len(server.requests(CHAT)) == 1


async def replied_forever(model: OpenAIModel) -> None:
    async with aclosing(model.reply(HELLO, language="en")) as pieces:
        async for _ in pieces:
            pass


# ---- load


async def test_the_first_chat_model_of_the_list_is_the_default(server: OpenAIServer) -> None:
    async with loaded(server.url) as model:
        await replied(model)
    assert server.requests(CHAT)[0]["model"] == "tiny"
    names = ["nomic-embed-text:latest", "whisper-1", "qwen3:4b", "llama3.2"]
    server.models = {"data": [{"id": name} for name in names]}
    async with loaded(server.url) as model:
        await replied(model)
    assert server.requests(CHAT)[-1]["model"] == "qwen3:4b"
    server.models = {"data": [{"id": f"embed-{number}"} for number in range(20)]}
    with pytest.raises(UnknownEngine, match=r"set PARLEY_LLM_MODEL: .*embed-0, embed-1.*embed-7, …$"):
        await load(server.url)


async def test_of_hosted_models_none_is_the_default(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))  # the host name stays api.openai.com
    with pytest.raises(UnknownEngine, match=r"set PARLEY_LLM_MODEL: .* has tiny"):
        await load("http://api.openai.com/v1", llm_key="secret")


async def load(url: str, **given: Any) -> None:
    async with loaded(url, **given):
        pass


@pytest.mark.parametrize("name", ["tiny", "llama", "gemini"])
async def test_a_listed_model_is_accepted(server: OpenAIServer, name: str) -> None:
    listed = [{"id": "tiny"}, {"id": "llama:latest"}, {"id": "models/gemini"}]
    for server.models in ({"data": listed}, listed):
        await load(server.url, llm_model=name)


async def test_an_unlisted_model_is_rejected(server: OpenAIServer) -> None:
    with pytest.raises(UnknownEngine, match=f"'huge'.*{server.url} has tiny"):
        await load(server.url, llm_model="huge")


@pytest.mark.parametrize("listing", [None, {}, [], 7, {"data": []}, {"data": None}, error(405), {"data": [7, {}]}])
async def test_a_server_without_a_list_needs_a_model_name(server: OpenAIServer, listing: Any) -> None:
    server.models = listing
    await load(server.url, llm_model="any")
    with pytest.raises(UnknownEngine, match="PARLEY_LLM_MODEL"):
        await load(server.url)


async def test_a_rejected_key_is_an_error_even_with_a_fallback(server: OpenAIServer, fallback: OpenAIServer) -> None:
    server.models = error(401, "Incorrect API key")
    for more in ({}, {"llm_fallback_url": fallback.url}):
        with pytest.raises(UnknownEngine, match=f"{server.url}: 401 Incorrect API key. Set PARLEY_LLM_KEY") as refused:
            await load(server.url, llm_model="tiny", **more)
        assert not isinstance(refused.value, EngineNotReady)


async def test_a_web_page_instead_of_a_list_is_an_error(server: OpenAIServer) -> None:
    server.models = Answer((b"<html>Welcome</html>",), None, headers={"content-type": "text/html"})
    with pytest.raises(UnknownEngine, match="Is PARLEY_LLM_URL complete"):
        await load(server.url, llm_model="tiny")


async def test_a_server_that_has_no_path_of_the_protocol_is_an_error(server: OpenAIServer) -> None:
    server.models, server.warm_up = None, error(404, "page not found")
    with pytest.raises(UnknownEngine, match=r"404 page not found. Is PARLEY_LLM_URL complete") as refused:
        await load(server.url, llm_model="tiny")
    assert not isinstance(refused.value, EngineNotReady)
    server.warm_up = error(400, "too few tokens")  # it knows the path, and that is enough
    await load(server.url, llm_model="tiny")


async def test_the_model_is_warm_when_it_is_loaded(server: OpenAIServer) -> None:
    await load(server.url)
    assert server.warm_ups == [
        {"model": "tiny", "messages": [{"role": "user", "content": WARM_UP}], "max_tokens": WARM_UP_TOKENS},
    ]
    server.warm_up = Answer((2.0, b'{"choices": []}'))  # it takes longer than a first token may take
    await load(server.url, **QUICK)
    server.warm_up = error(503, "loading")
    with pytest.raises(EngineNotReady, match="503 loading"):
        await load(server.url)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_only_the_list_accepts_is_an_error(server: OpenAIServer, status: int) -> None:
    server.warm_up = error(status, "no credits")
    with pytest.raises(UnknownEngine, match=f"{status} no credits. Set PARLEY_LLM_KEY") as refused:
        await load(server.url)
    assert not isinstance(refused.value, EngineNotReady)


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        (error(503, "Loading model"), "503 Loading model"),
        (Answer((NEVER_S,)), "no answer in time"),
        (Answer((b'{"data": [',)), "Expecting value"),
        (Answer((Cut,)), "onnection"),
    ],
)
async def test_a_server_down_at_start_is_waited_for_without_a_fallback(
    server: OpenAIServer, fallback: OpenAIServer, listing: Answer, reason: str
) -> None:
    server.models = listing
    with pytest.raises(EngineNotReady) as waits:
        await load(server.url, llm_model="tiny", **QUICK)
    assert waits.value.awaited == server.url
    assert reason in waits.value.reason
    await load(server.url, llm_model="tiny", llm_fallback_url=fallback.url, **QUICK)
    await load(fallback.url, llm_model="tiny", llm_fallback_url=server.url, **QUICK)


async def test_unreachable_servers_are_waited_for_by_name(fallback: OpenAIServer) -> None:
    nowhere = free_port_url()
    with pytest.raises(EngineNotReady, match=f"^{nowhere}: connection refused$"):
        await load(nowhere, llm_model="tiny")
    with pytest.raises(EngineNotReady, match="no connection: the host name is not known"):
        await load("http://nowhere.invalid/v1", llm_model="tiny")
    with pytest.raises(EngineNotReady, match=nowhere):
        await load(nowhere, llm_model="tiny", llm_fallback_url=nowhere)
    with pytest.raises(EngineNotReady, match=nowhere):  # only its list says which model to ask for
        await load(nowhere, llm_fallback_url=fallback.url)
    async with loaded(nowhere, llm_model="tiny", llm_fallback_url=fallback.url) as model:
        assert await replied(model) == ["From the fallback."]


@pytest.mark.parametrize("url", ["nonsense", "ftp://here/v1", "http://[::1", "http://", "http://host:x/v1"])
async def test_an_invalid_url_is_rejected(url: str) -> None:
    with pytest.raises(UnknownEngine, match="not a valid URL"):
        await load(url, llm_model="tiny")


async def test_keys(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    await load(server.url)
    assert server.asked[-1].headers["authorization"] == "Bearer none"
    with pytest.raises(UnknownEngine, match="PARLEY_LLM_KEY or OPENAI_API_KEY"):
        await load("", llm_model="tiny")
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    await load(server.url)
    assert server.asked[-1].headers["authorization"] == "Bearer from-environment"
    await load(server.url, llm_key="from-settings")
    assert server.asked[-1].headers["authorization"] == "Bearer from-settings"


async def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(UnknownEngine) as refused:
        await load(free_port_url().replace("//", "//user:secret@") + "?key=secret", llm_model="tiny")
    assert "secret" not in str(refused.value)


# ---- a real server


@pytest.mark.models
async def test_a_server_of_llama_cpp_with_a_real_model() -> None:
    library = load_library()
    params = library.CommonParams()
    (file,) = light_model("smollm2-135m-instruct").glob("*.gguf")
    params.model.path, params.n_parallel, params.n_ctx, params.verbosity = str(file), 1, 1024, 0
    server = await asyncio.to_thread(library.Server, params)
    question = (
        Message("system", "Answer in one short English sentence.", 0),
        Message("user", "What is the capital of France?", 1),
    )
    given: dict[str, Any] = {"temperature": 0.0, "reply_tokens": 20, "first_token_s": 60, "next_token_s": 60}
    async with (
        loaded(f"{server.listening_address}/v1", **given) as model,
        aclosing(model.reply(question, language="en")) as pieces,
    ):
        *texts, usage = [piece async for piece in pieces]
    assert "Paris" in "".join(map(str, texts))
    assert isinstance(usage, Usage)
    assert 0 < usage.reply <= 20
