"""The options of an agent for the chat model, in the llm stage."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from services.llm.engine import chat_options
from services.llm.engines.llama_cpp import LlamaCppModel
from services.llm.engines.openai import OpenAIModel
from services.llm.engines.scripted import ScriptedModel
from shared.protocol import frames as fr
from shared.protocol.session import ChatOptions, Message, ReplyOptions, SessionSettings
from tests.unit.llm.test_stage_omni import Session

JOB = fr.TranscriptFinal("s", 2, 0, "Tell me a story.", ReplyOptions())
SENTENCE = "Here are ten words that make up one single sentence. "


class Model:
    """Writes one long text, and records what it is asked for."""

    slots = 1

    def __init__(self, options: frozenset[str] = frozenset()) -> None:
        self.chat_options = options
        self.given: dict[str, Any] = {}

    async def load(self) -> None: ...

    async def reply(self, messages: Sequence[Message], **given: Any) -> AsyncGenerator[str, None]:
        self.given = given
        for word in (SENTENCE * 30).split(" "):
            yield f"{word} "

    async def close(self) -> None: ...


@pytest.mark.parametrize(("takes", "passed"), [(set(), False), ({"temperature"}, True)])
async def test_an_option_is_passed_to_a_model_that_takes_it(takes: set[str], passed: bool) -> None:
    chat, model = ChatOptions(temperature=0.5), Model(frozenset(takes))
    await Session(SessionSettings(chat=chat)).reply(model, JOB)
    assert model.given.get("options") == (chat if passed else None)


async def test_a_session_without_options_passes_none() -> None:
    model = Model(frozenset({"model", "temperature"}))
    await Session(SessionSettings()).reply(model, JOB)
    assert "options" not in model.given


@pytest.mark.parametrize(("longest", "at_most"), [(None, 400), (50, 50), (1000, 400)])
async def test_the_longest_reply_of_an_agent_is_the_shorter_limit(longest: int | None, at_most: int) -> None:
    log = await Session(SessionSettings(chat=ChatOptions(reply_tokens=longest))).reply(Model(), JOB)
    (done,) = (frame for frame in log if isinstance(frame, fr.ReplyDone))
    assert done.text.strip().endswith("one single sentence.")
    assert min(300, at_most) * 0.4 < len(done.text.split()) <= at_most


def test_which_engines_take_which_options() -> None:
    assert chat_options(OpenAIModel) == {"model", "temperature"}
    assert chat_options(LlamaCppModel) == {"temperature"}
    assert chat_options(ScriptedModel) == frozenset()
