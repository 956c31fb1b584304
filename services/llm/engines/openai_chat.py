"""One endpoint with a chat model: whether it is there, and one attempt at a reply, within the model's window."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import structlog
from pydantic import SecretStr

from services.llm.context.endpoint import EndpointWindow, listed_window
from services.llm.context.refusal import read_refusal
from services.llm.context.window import Fitted
from services.llm.engine import PromptTooLong, Usage
from services.llm.engines.openai_stream import StreamReader
from services.llm.engines.openai_wire import message_object, tool_object
from services.llm.hidden_text import ThoughtHabit
from shared.engines.endpoint_models import chats, choose_model
from shared.engines.endpoints import BAD_REQUEST, NO_ROUTE, REFUSED, Endpoint, EndpointFailed, Place
from shared.protocol.reasons import CONTENT_FILTER
from shared.protocol.session import Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()

LOAD_S = 300.0
"""Time in which a server that works has to load its model. Ollama stops loading when the request is given up."""
WARM_UP = "Answer with the word yes."
WARM_UP_TOKENS = 64
"""Enough for a short answer. A model that thinks may need more; its first reply then shows how it does that."""
REFUSALS = 4
"""How often a prompt is made shorter for one reply. Each is at most 0.7 times as long as the one before."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a reply is to answer."""

    messages: Sequence[Message]
    tools: Sequence[Tool]
    prefix: str
    """Text of this reply that an earlier attempt has published."""
    temperature: float
    model: str = ""
    """Another model of the endpoint; empty: its usual one."""


class ChatEndpoint:
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
        self._listed: dict[str, int] = {}
        self._windows: dict[str, EndpointWindow] = {}

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
            self._listed = {entry["id"]: listed_window(entry) for entry in listed or ()}
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

    def _window(self, model: str) -> EndpointWindow:
        if model not in self._windows:
            known = (self._settings.context_tokens, self._listed.get(model, self._listed.get(f"{model}:latest", 0)))
            self._windows[model] = EndpointWindow(min(filter(None, known), default=0), self._settings.reply_tokens)
        return self._windows[model]

    async def reply(self, request: ChatRequest) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """Make one attempt at a reply. A prompt that is refused because of its length is made shorter and sent again.

        Closing the generator closes the connection.

        Raises:
            PromptTooLong: the last turn alone is too long.
            EndpointFailed: no token came in time, the stream stalled, or it ended without a finish_reason.
        """
        if request.prefix and self.endpoint.hosted:
            return  # hosted models cannot continue a message
        request = replace(request, model=request.model or self.model)
        window, refusals, refused, begun = self._window(request.model), 0, "", False
        while True:
            try:
                fitted = window.fit(request.messages, request.tools, request.prefix)
            except PromptTooLong as error:
                raise PromptTooLong(refused or f"{self.url}: {error}") from error
            usage = Usage(window=window.limit, left_out=replace(fitted.left_out, refusals=refusals))
            try:
                with self.endpoint.counted():
                    async with aclosing(self._attempt(request, fitted, usage)) as pieces:
                        async for piece in pieces:
                            begun = True
                            yield piece
            except EndpointFailed as error:
                refusal = None if begun else read_refusal(error.status, error.reason, error.details)
                if refusal is None:
                    raise
                refusals, refused = refusals + 1, str(error)
                if refusals > REFUSALS:
                    raise PromptTooLong(refused) from error
                window.shorten(refusal, fitted, request.tools, request.prefix)
                log.info(
                    "endpoint refused a prompt for its length", endpoint=self.url, limit=window.limit, reason=refused
                )
            else:
                window.report(fitted.messages, request.tools, request.prefix, usage.prompt)
                yield usage
                return

    async def _attempt(
        self, request: ChatRequest, fitted: Fitted, usage: Usage
    ) -> AsyncGenerator[str | ToolCall, None]:
        now, settings = asyncio.get_running_loop().time, self._settings
        deadline = now() + settings.first_token_s
        try:
            stream = await self._start(request, fitted.messages, deadline)
        except EndpointFailed as error:
            too_long = read_refusal(error.status, error.reason, error.details)
            if request.prefix and error.status in BAD_REQUEST and not too_long:
                log.info("endpoint cannot continue a reply", endpoint=self.url, reason=str(error))
                return
            raise
        async with stream:
            reader = StreamReader(self.endpoint, stream, usage, self._habit, request.prefix)
            async with aclosing(reader.pieces(deadline, settings.next_token_s, settings.reply_tokens)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _start(self, request: ChatRequest, messages: Sequence[Message], deadline: float) -> Any:
        """Send the request and return its stream; without `stream_options` once the server has rejected them."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [message_object(message) for message in messages],
            "temperature": request.temperature,
            self._limit: self._settings.reply_tokens,
        }
        if request.tools:
            body["tools"] = [tool_object(tool) for tool in request.tools]
        if text := request.prefix.rstrip():  # a template may strip a trailing space, and then not find the message
            body["messages"].append({"role": "assistant", "content": text})
            body["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        if self._reports_usage is not False:
            try:
                stream = await self._create({**body, "stream_options": {"include_usage": True}}, deadline)
            except EndpointFailed as error:
                too_long = read_refusal(error.status, error.reason, error.details)
                of_content = too_long or error.code == CONTENT_FILTER
                if self._reports_usage or error.status not in BAD_REQUEST or of_content:
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
