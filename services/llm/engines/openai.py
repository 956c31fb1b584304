"""A chat model behind an endpoint that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

An endpoint that fails before its first word is asked once more, then the fallback, if there is one. After the first
word a failure is the worker's: the reply is delivered again, and goes on after what was said.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import structlog
from pydantic import SecretStr

from services.llm.engine import Usage
from services.llm.engines.openai_wire import Calls, message_form, note_usage, tool_form
from shared.engines.endpoints import BAD_REQUEST, NO_ROUTE, Endpoint, EndpointFailed, Place
from shared.engines.registry import UnknownEngine
from shared.protocol.session import Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()

TAIL_S = 0.5
"""After its last word: what is left of the stream is read for so long, so that its connection can be used again."""
CHARACTERS_PER_TOKEN = 16
"""More than any reply has on the average: one that is longer comes from an endpoint that heeds no limit."""
KEY_NAMES = "PARLEY_LLM_KEY or OPENAI_API_KEY"
THOUGHT, THOUGHT_END = "<think>", "</think>"
REASONING = ("reasoning_content", "reasoning")
"""Where servers put what a model thinks and does not say."""
LONGEST_REASON = 32
_END = object()


class OpenAIModel:
    """See `engine.ChatModel`. `language` is not told: the instructions and the person's own words tell it."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._chats: list[_Chat] = []

    async def load(self) -> None:
        """Ask the endpoints for their models. A fallback, or what has one, may be down.

        Raises:
            UnknownEngine: an endpoint cannot be reached, refuses the key or does not know the model.
        """
        self._chats = await asyncio.to_thread(self._open)  # the import alone takes most of a second
        failures = []
        for chat in self._chats:
            chat.model = chat.model or self._chats[0].model
            try:
                await chat.check()
            except EndpointFailed as error:
                failures.append(error)
                if not error.transient or len(failures) == len(self._chats):
                    raise UnknownEngine(f"{error} (model {chat.model or 'not set'})") from error
                log.warning("endpoint is down", endpoint=chat.url, reason=str(error))
        if not self._chats[0].model:
            raise UnknownEngine(f"{self._chats[0].url} is down and cannot say its model: set PARLEY_LLM_MODEL")

    def _open(self) -> "list[_Chat]":
        given = self._settings
        chats = [_Chat(given, given.llm_url, given.llm_key, given.llm_model)]
        if given.llm_fallback_url:
            fallback = (given.llm_fallback_url, given.llm_fallback_key, given.llm_fallback_model)
            chats.append(_Chat(given, *fallback, place="fallback"))
        return chats

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See `engine.ChatModel`. Its usage comes last; an endpoint tells none of a reply that was cut off.

        Raises:
            ValueError: the endpoint takes the request for a bad one.
            EndpointFailed: all failed before their first word, or one after it.
        """
        primary, *fallback = self._chats
        request = {"messages": [message_form(message) for message in messages]}
        if tools:
            request["tools"] = [tool_form(tool) for tool in tools]
        attempts = [primary, primary, *fallback]
        while attempts:
            chat, begun = attempts.pop(0), False
            try:
                async with aclosing(chat.reply(request, prefix)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except EndpointFailed as error:
                if error.status in BAD_REQUEST:
                    raise ValueError(str(error)) from error
                if not error.transient:
                    attempts = [other for other in attempts if other is not chat]
                if begun or not attempts:
                    raise
                log.warning("endpoint failed", endpoint=chat.url, reason=str(error))
                if attempts[0] is chat:
                    await asyncio.sleep(error.pause_s)

    async def close(self) -> None:
        for chat in self._chats:
            await chat.endpoint.close()


class _Chat:
    """One server, and the model that it is asked for."""

    def __init__(
        self, settings: Settings, url: str, key: SecretStr | None, model: str, *, place: Place = "first"
    ) -> None:
        self._settings, self.model = settings, model
        longest_s = max(settings.first_token_s, settings.next_token_s)
        self.endpoint = Endpoint(url, key, KEY_NAMES, longest_s, stage="llm", place=place)
        self.url = self.endpoint.url
        self._tells_usage: bool | None = None  # not known yet

    async def check(self) -> None:
        """Find the model in the server's list, if it has one; without a name take its only one.

        Raises:
            UnknownEngine: it is not there, or there is none or more than one to take.
            EndpointFailed: the server does not answer, or refuses the key.
        """
        served: list[str] = []
        try:
            async with self.endpoint.until(asyncio.get_running_loop().time() + self._settings.first_token_s):
                answer = await self.endpoint.client.get("/models", cast_to=object)
        except EndpointFailed as error:
            if error.status not in NO_ROUTE:
                raise
        else:
            if isinstance(answer, str):
                raise UnknownEngine(f"{self.url}/models answers with a page of text: is the URL whole (…/v1)?")
            listed = answer.get("data") if isinstance(answer, dict) else answer
            models = [model for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []
            served = [model["id"] for model in models if isinstance(model.get("id"), str)]
        there_are = f"{self.url} has {', '.join(served[:8]) or 'no list of models'}{', …' if len(served) > 8 else ''}"
        if not self.model:
            if len(served) != 1:
                raise UnknownEngine(f"set PARLEY_LLM_MODEL: {there_are}")
            (self.model,) = served
        elif served and not {self.model, f"{self.model}:latest", f"models/{self.model}"} & set(served):
            raise UnknownEngine(f"no model {self.model!r}: {there_are}")

    async def reply(self, request: dict[str, Any], prefix: str) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """One attempt at a reply. Whoever closes it closes the connection.

        Raises:
            EndpointFailed: it did not begin, stalled, or ended in the middle.
        """
        if prefix and self.endpoint.hosted:
            return
        with self.endpoint.counted():
            async with aclosing(self._attempt(request, prefix)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _attempt(self, request: dict[str, Any], prefix: str) -> AsyncGenerator[str | ToolCall | Usage, None]:
        now = asyncio.get_running_loop().time
        deadline = now() + self._settings.first_token_s
        try:
            stream = await self._ask(request, prefix, deadline)
        except EndpointFailed as error:
            if prefix and error.status in BAD_REQUEST:
                log.info("endpoint cannot go on in a reply", endpoint=self.url, reason=str(error))
                return
            raise
        spoken, calls, usage = _Spoken(prefix), Calls(), Usage()
        left = CHARACTERS_PER_TOKEN * self._settings.reply_tokens
        async with stream:
            finished = False
            while not finished:
                delta, finished = await self._next(stream, deadline, usage)
                content, fragments = getattr(delta, "content", None), getattr(delta, "tool_calls", None)
                for call in calls.feed(fragments or ()):
                    yield call
                if content and isinstance(content, str) and (text := spoken.feed(content)):
                    yield text[:left]
                    left -= len(text)
                    if left <= 0:
                        log.warning("reply cut off: the endpoint heeds no limit", endpoint=self.url)
                        return
                if content or fragments or any(getattr(delta, name, None) for name in REASONING):
                    deadline = now() + self._settings.next_token_s
            if text := spoken.finish():
                yield text
            for call in calls.finish():
                yield call
            await self._read_tail(stream, usage)
            yield usage

    async def _ask(self, request: dict[str, Any], prefix: str, deadline: float) -> Any:
        """Begin the reply. A server that refuses to be asked what it takes is not asked that."""
        limit = "max_completion_tokens" if self.endpoint.hosted else "max_tokens"
        asked = {**request, limit: self._settings.reply_tokens, "temperature": self._settings.temperature}
        if said := prefix.rstrip():  # a template may drop a blank at the end, and not find the message again
            asked["messages"] = [*request["messages"], {"role": "assistant", "content": said}]
            asked["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        if self._tells_usage is not False:
            try:
                stream = await self._create({**asked, "stream_options": {"include_usage": True}}, deadline)
            except EndpointFailed as error:
                if self._tells_usage or error.status not in BAD_REQUEST:
                    raise
            else:
                self._tells_usage = True
                return stream
        stream = await self._create(asked, deadline)
        if self._tells_usage is None:
            log.info("endpoint cannot tell how many tokens a reply takes", endpoint=self.url)
            self._tells_usage = False
        return stream

    async def _create(self, asked: dict[str, Any], deadline: float) -> Any:
        async with self.endpoint.until(deadline):
            return await self.endpoint.client.chat.completions.create(model=self.model, stream=True, **asked)

    async def _next(self, stream: Any, deadline: float, usage: Usage) -> tuple[Any, bool]:
        """The next delta, None where a chunk has none, and whether it is the last one. What it says of `usage` goes there."""
        async with self.endpoint.until(deadline):
            chunk = await anext(stream, _END)
        if chunk is _END:
            kind = stream.response.headers.get("content-type", "nothing")
            raise EndpointFailed(f"{self.url}: {self.model} ended without a finish_reason ({kind})")
        choices = getattr(chunk, "choices", None)
        choice = choices[0] if choices and isinstance(choices, list) else None
        if (told := getattr(chunk, "usage", None)) is not None:
            note_usage(usage, told)
        finish_reason = getattr(choice, "finish_reason", None)
        if finish_reason and isinstance(finish_reason, str):
            usage.finish_reason = finish_reason[:LONGEST_REASON]
        return getattr(choice, "delta", None), bool(finish_reason)

    async def _read_tail(self, stream: Any, usage: Usage) -> None:
        deadline = asyncio.get_running_loop().time() + TAIL_S
        with suppress(EndpointFailed):
            while True:
                await self._next(stream, deadline, usage)


class _Spoken:
    """What is to be said of a reply's text: no thoughts before it, nothing of what was said already."""

    def __init__(self, prefix: str) -> None:
        self._said, self._after_blank = prefix.rstrip(), prefix[-1:].isspace()
        self._held = ""  # until it is clear what it is
        self._filters = [self._drop_thoughts, self._drop_prefix]

    def feed(self, text: str) -> str:
        """Each filter holds back what it is given until it is sure, lets go the rest, and is gone."""
        while self._filters and text:
            self._held += text
            sure, text = self._filters[0]()
            if not sure:
                return ""
            self._held = ""
            del self._filters[0]
        return text

    def finish(self) -> str:
        """What is held back still. A thought without an end is none of it, nor is what only repeats."""
        if len(self._filters) < 2 or self._held.lstrip().startswith(THOUGHT):
            return ""
        text, self._held = self._held, ""
        del self._filters[0]
        return self.feed(text)

    def _drop_thoughts(self) -> tuple[bool, str]:
        begun = self._held.lstrip()
        if not begun.startswith(THOUGHT):
            return not THOUGHT.startswith(begun), self._held
        thought, end, rest = begun.removeprefix(THOUGHT).partition(THOUGHT_END)
        # Of a long thought only so much is kept as may be the beginning of its end.
        self._held = THOUGHT + (end or thought[-len(THOUGHT_END) :])
        return bool(rest.strip()), rest.lstrip()

    def _drop_prefix(self) -> tuple[bool, str]:
        """Some servers begin anew instead of going on: that is seen where they differ, or when all is repeated."""
        rest = self._held.removeprefix(self._said)
        return not self._said.startswith(self._held), rest.lstrip() if self._after_blank else rest
