"""Any GGUF chat model, by llama.cpp: a small model on a few CPU cores, or a large one on a GPU that its build supports.

Each step of the server generates one token for every active reply, or reads a part of a new prompt. A cancelled reply
leaves at the next step. Each conversation finds its own KV cache again.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from services.llm.engine import Shortening, Usage
from services.llm.engines.chat_template import ChatTemplate
from services.llm.engines.gguf import BadGguf, read_gguf
from services.llm.engines.llama_params import build_params, find_gguf, parallel_replies
from services.llm.engines.llama_server import (
    NO_REASONING,
    LlamaServer,
    LlamaTokenizer,
    ServerFailed,
    load_library,
)
from services.llm.engines.llama_slots import SlotPool
from services.llm.engines.openai_wire import ToolCallAssembler
from shared.agents.folder import BadAgents, load_agents
from shared.engines.devices import device_kind
from shared.engines.models import model_name
from shared.engines.registry import UnknownEngine
from shared.observability import metrics
from shared.protocol.prompt import prompt
from shared.protocol.session import ChatOptions, Message, ReplyOptions, Tool, ToolCall
from shared.settings import Settings

STOP_S = 10.0
NO_LOOPS = {"dry_multiplier": 0.8, "dry_allowed_length": 10, "dry_penalty_last_n": 64}
"""llama.cpp's DRY sampler: small models repeat a phrase until the reply is cut off. After ten tokens that repeat a part of the
last 64, each further one becomes less likely. With three, a model could not say a name that stands in the prompt."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What the server is asked for."""

    body: dict[str, Any]
    prompt: str
    """The rendered conversation, and the text of an earlier attempt at this reply."""
    prompt_tokens: int
    reply_tokens: int
    """Most tokens of the rest of the reply."""
    left_out: Shortening


class LlamaCppModel:
    """See `engine.ChatModel`. `language` is not used: the model infers it from the conversation."""

    chat_options = frozenset({"temperature"})

    def __init__(self, settings: Settings) -> None:
        self.slots = parallel_replies(settings)
        self._settings = settings
        self._server: LlamaServer | None = None
        self._tokenizer: LlamaTokenizer
        self._template: ChatTemplate
        self._pool: SlotPool
        self._limit = 0  # maximum tokens of a prompt
        self._running = 0

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model or the library is missing, or the model does not work."""
        try:
            self._pool = SlotPool(self.slots, await asyncio.to_thread(self._load))
            first, *others = await asyncio.to_thread(self._first_prompts)
            await self._warm_up(first)  # shows whether the model works
            async with asyncio.TaskGroup() as group:
                for messages in others:
                    group.create_task(self._warm_up(messages))
        except ServerFailed as error:
            await self.close()
            raise UnknownEngine(f"the model cannot generate a reply: {error}") from error
        except BaseException:
            await self.close()
            raise

    def _first_prompts(self) -> list[list[Message]]:
        """Return what a new session asks: with the default agent, and with as many others as there are slots."""
        try:
            agents = load_agents(self._settings)
        except BadAgents:  # the edge says why
            sessions = [self._settings.session]
        else:
            others = [agent.settings for agent in agents.by_id.values() if agent is not agents.default]
            sessions = [agents.default.settings, *others]
        return [prompt(session, ReplyOptions(), (), 1, "Hello.") for session in sessions[: self.slots]]

    async def _warm_up(self, messages: Sequence[Message]) -> None:
        """Begin a reply. Afterwards a slot has the instructions and examples, most of the first prompt of a session."""
        async with aclosing(self.reply(messages, language="")) as items:
            async for item in items:
                if isinstance(item, str):
                    break

    def _load(self) -> int:
        """Load the model, and return the number of tokens that its KV cache holds."""
        settings, library = self._settings, load_library()
        kind = "cpu" if settings.llm_model else device_kind(settings)
        self.model_name = name = model_name("llm", "llama-cpp", settings.llm_model, kind)
        path = find_gguf(name, settings.models_dir)
        try:
            model = read_gguf(path)
            params, size = build_params(library, settings, path, model)
            self._limit = size.longest - settings.reply_tokens
            self._server = LlamaServer(library, params)
            self._tokenizer = LlamaTokenizer(self._server, model.chat_template, model.controls)
            self._template = ChatTemplate(self._tokenizer)
        except (UnknownEngine, BadGguf, ServerFailed, OSError) as error:
            raise UnknownEngine(f"{path} cannot be used: {error}") from error
        return size.total

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See `engine.ChatModel`.

        Raises:
            PromptTooLong: the last turn is too long for the model.
            ValueError: its chat template rejects the conversation.
            ServerFailed: the server gave this reply up.
            EngineLost: the server cannot work again.
        """
        request = await asyncio.to_thread(self._request, messages, prefix, tools)
        if options is not None and options.temperature is not None:
            request.body["temperature"] = options.temperature
        if request.reply_tokens <= 0:
            return
        assert self._server is not None, "load comes first"  # noqa: S101
        slot = await self._pool.take(request.prompt, request.prompt_tokens + request.reply_tokens)
        body = {**request.body, "id_slot": slot.number}
        usage, calls = Usage(window=self._limit, left_out=request.left_out), ToolCallAssembler()
        self._running += 1
        metrics.batch_size.labels("llm").observe(self._running)
        try:
            with closing(self._server.chat(body, lambda: self._pool.give_back(slot))) as chunks:
                async for chunk in chunks:
                    if _update_usage(usage, chunk):
                        yield usage
                    for choice in getattr(chunk, "choices", ()):
                        for call in calls.feed(getattr(choice.delta, "tool_calls", None) or ()):
                            yield call
                        if text := getattr(choice.delta, "content", None):
                            slot.text += text
                            yield text
                        usage.finish_reason = choice.finish_reason or ""
                if usage.finish_reason != "length":  # the last call is complete
                    for call in calls.finish():
                        yield call
        finally:
            self._running -= 1

    def _request(self, messages: Sequence[Message], prefix: str, tools: Sequence[Tool]) -> _Request:
        begun = self._template.escaped(prefix)
        begun_tokens = len(self._template.ids(begun)) if begun else 0
        fitted = self._template.fit(messages, tools, self._limit)
        rendered = fitted.rendered
        tokens = self._settings.reply_tokens - begun_tokens
        body: dict[str, Any] = {
            "messages": rendered.messages,
            "max_tokens": tokens,
            "temperature": self._settings.temperature,
            **NO_REASONING,
            **NO_LOOPS,
            "return_progress": True,  # a chunk for each part of the prompt: a reply can be cancelled at a chunk
            "timings_per_token": True,  # the number of tokens in each chunk
        }
        if rendered.tools:
            body |= {"tools": rendered.tools, "parallel_tool_calls": True}
        if begun:
            body["messages"] = [*rendered.messages, {"role": "assistant", "content": begun}]
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return _Request(body, rendered.text + begun, len(fitted.ids) + begun_tokens, tokens, fitted.left_out)

    async def close(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(server.close, STOP_S)


def _update_usage(usage: Usage, chunk: SimpleNamespace) -> bool:
    """Take over the counts of a chunk. Returns whether it is the first chunk that has any."""
    first = not usage.prompt
    if (progress := getattr(chunk, "prompt_progress", None)) is not None:
        usage.prompt, usage.cached = progress.total, progress.cache
    if (timings := getattr(chunk, "timings", None)) is not None:
        usage.reply = timings.predicted_n
    return first and bool(usage.prompt)
