"""A chat model behind an endpoint with OpenAI's protocol: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

A request that fails before its first token, or whose reply is empty, is retried once, then sent to the fallback endpoint, if
there is one. After the first token a failure fails the job: the broker delivers it again, and the new attempt continues
after the published text.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import structlog
from pydantic import SecretStr

from services.llm.engine import EmptyReply, Usage, why_cut
from services.llm.engines.openai_wire import ToolCallAssembler, message_object, tool_object, update_usage
from services.llm.hidden_text import HiddenText, ThoughtHabit
from shared.engines.endpoint_models import chats, choose_model
from shared.engines.endpoints import BAD_REQUEST, NO_ROUTE, REFUSED, Endpoint, EndpointFailed, Place
from shared.engines.registry import EngineNotReady
from shared.protocol.reasons import CONTENT_FILTER, EMPTY_REPLY
from shared.protocol.session import ChatOptions, Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()

LOAD_S = 300.0
"""Time in which a server that works has to load its model. Ollama stops loading when the request is given up."""
WARM_UP = "Answer with the word yes."
WARM_UP_TOKENS = 64
"""Enough for a short answer. A model that thinks may need more; its first reply then shows how it does that."""
TAIL_S = 0.5
"""Time to read the rest of the stream after the last token, so that its connection can be reused."""
CHARACTERS_PER_TOKEN = 16
"""More than the average of any reply. A longer reply comes from an endpoint that ignores the token limit."""
REASONING_FIELDS = ("reasoning_content", "reasoning")
"""The fields in which servers send the reasoning of a model."""
MAX_FINISH_REASON = 32
_END = object()


class OpenAIModel:
    """See `engine.ChatModel`. `language` is not sent: the model infers it from the conversation."""

    chat_options = frozenset({"model", "temperature"})

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._chats: list[_Chat] = []

    @property
    def model_name(self) -> str:
        return self._chats[0].model if self._chats else ""

    async def load(self) -> None:
        """Check that the endpoints serve the models. With a fallback, one of the two endpoints may be down.

        Raises:
            EngineNotReady: no endpoint answers yet, or not the one whose list has to name the model.
            UnknownEngine: an endpoint refuses the key, or does not have the model.
        """
        self._chats = await asyncio.to_thread(self._open)  # the import alone takes most of a second
        missing: list[EngineNotReady] = []
        for chat in self._chats:
            chat.model = chat.model or self._chats[0].model
            try:
                await chat.check()
            except EngineNotReady as error:
                missing.append(error)
        if missing and (len(missing) == len(self._chats) or not self._chats[0].model):
            raise missing[0]
        for down in missing:
            log.warning("endpoint down at start", endpoint=down.awaited, reason=down.reason)

    def _open(self) -> "list[_Chat]":
        settings = self._settings
        chats = [_Chat(settings, settings.llm_url, settings.llm_key, settings.llm_model)]
        if settings.llm_fallback_url:
            fallback = (settings.llm_fallback_url, settings.llm_fallback_key, settings.llm_fallback_model)
            chats.append(_Chat(settings, *fallback, place="fallback"))
        return chats

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See `engine.ChatModel`. The usage comes last; endpoints do not report it for a cancelled reply.

        Raises:
            ValueError: the endpoint rejects the request as invalid.
            EndpointFailed: all endpoints failed before the first token, or one failed after it.
            EmptyReply: the last endpoint sent nothing that is to be heard.
        """
        primary, *fallback = self._chats
        request: dict[str, Any] = {"messages": [message_object(message) for message in messages]}
        if options is not None and options.temperature is not None:
            request["temperature"] = options.temperature
        if tools:
            request["tools"] = [tool_object(tool) for tool in tools]
        attempts = [primary, primary, *fallback]
        while attempts:
            chat, begun, usage = attempts.pop(0), False, Usage()
            try:
                model = options.model if options is not None and chat is primary else ""
                async with aclosing(chat.reply(request | {"model": model or chat.model}, prefix)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Usage):
                            usage = piece
                        else:
                            begun = True
                        yield piece
                if begun or prefix:
                    return
                reason = f"the reply has no words (finish_reason: {usage.finish_reason or 'none'})"
                raise _NothingSaid(chat.url, reason, why_cut(usage.finish_reason) or EMPTY_REPLY)
            except EndpointFailed as error:
                filtered = error.code == CONTENT_FILTER  # of the request itself: it is no fault of its form
                if error.status in BAD_REQUEST and not filtered:
                    raise ValueError(str(error)) from error
                if not error.transient:
                    attempts = [other for other in attempts if other is not chat]
                if begun and filtered:
                    yield Usage(finish_reason=CONTENT_FILTER)
                    return
                if begun or not attempts:
                    if filtered or isinstance(error, _NothingSaid):
                        raise EmptyReply(str(error), error.code) from None
                    raise
                log.warning("endpoint failed", endpoint=chat.url, reason=str(error))
                if attempts[0] is chat:
                    await asyncio.sleep(error.pause_s)

    async def close(self) -> None:
        for chat in self._chats:
            await chat.endpoint.close()


class _NothingSaid(EndpointFailed):
    """The endpoint answered, but with nothing that is to be heard."""

    def __init__(self, url: str, reason: str, code: str) -> None:
        """`code`: one of `reasons.FAILURES`."""
        super().__init__(url, reason, pause_s=0.0, code=code)


class _Chat:
    """One endpoint and the name of its model."""

    def __init__(
        self, settings: Settings, url: str, key: SecretStr | None, model: str, *, place: Place = "first"
    ) -> None:
        self._settings, self.model = settings, model
        longest_s = max(settings.first_token_s, settings.next_token_s)
        self.endpoint = Endpoint(url, key, longest_s, stage="llm", place=place)
        self.url = self.endpoint.url
        self._variable = "PARLEY_LLM_FALLBACK_MODEL" if place == "fallback" else "PARLEY_LLM_MODEL"
        self._reports_usage: bool | None = None  # None: not known yet
        self._habit = ThoughtHabit()

    async def check(self) -> None:
        """Choose the model, and ask it for a word: a server may load a model only when it is asked for it.

        Without a configured name, the model is the first chat model in the server's list.

        Raises:
            EngineNotReady: the server does not answer yet.
            UnknownEngine: it refuses the key, has no such model, or answers no request for a reply.
        """
        now, first_token_s = asyncio.get_running_loop().time, self._settings.first_token_s
        try:
            listed = await self.endpoint.listed_models(now() + first_token_s)
            # OpenAI's own list is long and in no order: which of these models is paid for is not to be guessed.
            suits = (lambda _: False) if self.endpoint.hosted else chats
            self.model = choose_model(self.model, listed, suits, self._variable, self.url)
            await self._warm_up(first_token_s if listed is None else LOAD_S)
        except EndpointFailed as error:
            raise self.endpoint.load_error(error) from error

    async def _warm_up(self, timeout_s: float) -> None:
        """Ask for a word, and see whether the model thinks first. A model that takes no such request is not rejected for that.

        Raises:
            EndpointFailed: there is no answer, or the key, the model or the URL is wrong.
        """
        log.info("waiting for the first answer of the endpoint", endpoint=self.url, model=self.model)
        question = [{"role": "user", "content": WARM_UP}]
        create = self.endpoint.client.chat.completions.create
        try:
            async with self.endpoint.until(asyncio.get_running_loop().time() + timeout_s):
                answer = await create(
                    model=self.model, messages=question, timeout=timeout_s, **{self._limit: WARM_UP_TOKENS}
                )
        except EndpointFailed as error:
            if error.transient or error.status in (*NO_ROUTE, *REFUSED):
                raise
            return
        choice = next(iter(getattr(answer, "choices", None) or ()), None)
        text = getattr(getattr(choice, "message", None), "content", None)
        if text and isinstance(text, str):
            self._habit.learn(text, whole=getattr(choice, "finish_reason", None) == "stop")

    @property
    def _limit(self) -> str:
        """The parameter that limits the tokens of a reply."""
        return "max_completion_tokens" if self.endpoint.hosted else "max_tokens"

    async def reply(self, request: dict[str, Any], prefix: str) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """Make one attempt at a reply. Closing the generator closes the connection.

        Raises:
            EndpointFailed: no token came in time, the stream stalled, or it ended without a finish_reason.
        """
        if prefix and self.endpoint.hosted:
            return  # hosted models cannot continue a message
        with self.endpoint.counted():
            async with aclosing(self._attempt(request, prefix)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _attempt(self, request: dict[str, Any], prefix: str) -> AsyncGenerator[str | ToolCall | Usage, None]:
        now = asyncio.get_running_loop().time
        deadline = now() + self._settings.first_token_s
        try:
            stream = await self._start(request, prefix, deadline)
        except EndpointFailed as error:
            if prefix and error.status in BAD_REQUEST:
                log.info("endpoint cannot continue a reply", endpoint=self.url, reason=str(error))
                return
            raise
        reader, repeated = HiddenText(self._habit, begun=bool(prefix)), RepeatedPrefix(prefix)
        calls, usage = ToolCallAssembler(), Usage()
        left = CHARACTERS_PER_TOKEN * self._settings.reply_tokens
        async with stream:
            finished = False
            while not finished:
                delta, finished = await self._next(stream, deadline, usage)
                content, fragments = _content(delta), getattr(delta, "tool_calls", None)
                reasons = any(getattr(delta, name, None) for name in REASONING_FIELDS)
                if reasons and self._habit.opens is None:
                    self._habit.opens = False  # the server takes the thoughts out of the text
                for call in calls.feed(fragments or ()):
                    yield call
                for piece in repeated.drop(reader.feed(content)):
                    yield piece if isinstance(piece, ToolCall) else piece[:left]
                    left -= 0 if isinstance(piece, ToolCall) else len(piece)
                    if left <= 0:
                        log.warning("reply cut off: endpoint ignores the token limit", endpoint=self.url)
                        usage.finish_reason = "length"
                        yield usage
                        return
                if content or fragments or reasons:
                    deadline = now() + self._settings.next_token_s
            for piece in (*repeated.drop(reader.finish()), *repeated.finish()):
                yield piece
            if not why_cut(usage.finish_reason):  # the last call is complete
                for call in calls.finish():
                    yield call
            await self._read_tail(stream, usage)
            yield usage

    async def _start(self, request: dict[str, Any], prefix: str, deadline: float) -> Any:
        """Send the request and return its stream; without `stream_options` once the server has rejected them."""
        body = {"temperature": self._settings.temperature, **request, self._limit: self._settings.reply_tokens}
        if text := prefix.rstrip():  # a template may strip a trailing space, and then not find the message
            body["messages"] = [*request["messages"], {"role": "assistant", "content": text}]
            body["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        if self._reports_usage is not False:
            try:
                stream = await self._create({**body, "stream_options": {"include_usage": True}}, deadline)
            except EndpointFailed as error:
                if self._reports_usage or error.status not in BAD_REQUEST or error.code == CONTENT_FILTER:
                    raise
            else:
                self._reports_usage = True
                return stream
        stream = await self._create(body, deadline)
        if self._reports_usage is None:
            log.info("endpoint does not report token usage", endpoint=self.url)
            self._reports_usage = False
        return stream

    async def _create(self, body: dict[str, Any], deadline: float) -> Any:
        async with self.endpoint.until(deadline):
            return await self.endpoint.client.chat.completions.create(stream=True, **body)

    async def _next(self, stream: Any, deadline: float, usage: Usage) -> tuple[Any, bool]:
        """Return the next delta, None if the chunk has none, and whether it is the last. Updates `usage`."""
        async with self.endpoint.until(deadline):
            chunk = await anext(stream, _END)
        if chunk is _END:
            kind = stream.response.headers.get("content-type", "nothing")
            raise EndpointFailed(self.url, f"{self.model} ended without a finish_reason ({kind})")
        choices = getattr(chunk, "choices", None)
        choice = choices[0] if choices and isinstance(choices, list) else None
        if (reported := getattr(chunk, "usage", None)) is not None:
            update_usage(usage, reported)
        finish_reason = getattr(choice, "finish_reason", None)
        if finish_reason and isinstance(finish_reason, str):
            usage.finish_reason = finish_reason[:MAX_FINISH_REASON]
        return getattr(choice, "delta", None), bool(finish_reason)

    async def _read_tail(self, stream: Any, usage: Usage) -> None:
        deadline = asyncio.get_running_loop().time() + TAIL_S
        with suppress(EndpointFailed):
            while True:
                await self._next(stream, deadline, usage)


def _content(delta: Any) -> str:
    """The text of a delta. A refusal is text, too: the person is to hear it."""
    found = getattr(delta, "content", None) or getattr(delta, "refusal", None)
    return found if isinstance(found, str) else ""


class RepeatedPrefix:
    """Removes the prefix from the beginning of a reply: some servers start the reply again instead of continuing it."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._ends_with_space = prefix.rstrip(), prefix[-1:].isspace()
        self._held = ""  # the same as the beginning of the prefix so far

    def drop(self, pieces: Sequence[str | ToolCall]) -> Iterator[str | ToolCall]:
        for piece in pieces:
            if self._prefix and isinstance(piece, str):
                self._held += piece
                again = self._held.lstrip()  # a server that starts again may start with a space
                if self._prefix.startswith(again):
                    continue
                rest = again.removeprefix(self._prefix) if again.startswith(self._prefix) else self._held
                piece = rest.lstrip() if self._ends_with_space else rest  # noqa: PLW2901
                self._prefix = ""
            if piece:
                yield piece

    def finish(self) -> Iterator[str]:
        """Yield what was held back: the reply ended before it had repeated all of the prefix."""
        if self._prefix and self._held and self._held != self._prefix:
            yield self._held
