"""A chat model behind an endpoint with OpenAI's protocol: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

A request that fails before its first token, or whose reply is empty, is retried once, then sent to the fallback endpoint, if
there is one. After the first token a failure fails the job: the broker delivers it again, and the new attempt continues
after the published text.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog

from services.llm.engine import EmptyReply, PromptTooLong, Usage, why_cut
from services.llm.engines.openai_chat import ChatEndpoint, ChatRequest
from shared.engines.endpoints import BAD_REQUEST, EndpointFailed
from shared.engines.registry import EngineNotReady
from shared.protocol.reasons import CONTENT_FILTER, EMPTY_REPLY
from shared.protocol.session import ChatOptions, Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()


class OpenAIModel:
    """See `engine.ChatModel`. `language` is not sent: the model infers it from the conversation."""

    chat_options = frozenset({"model", "temperature"})

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._chats: list[ChatEndpoint] = []

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

    def _open(self) -> list[ChatEndpoint]:
        settings = self._settings
        chats = [ChatEndpoint(settings, settings.llm_url, settings.llm_key, settings.llm_model)]
        if settings.llm_fallback_url:
            fallback = (settings.llm_fallback_url, settings.llm_fallback_key, settings.llm_fallback_model)
            chats.append(ChatEndpoint(settings, *fallback, place="fallback"))
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
            PromptTooLong: the last turn is too long for all endpoints.
            ValueError: the endpoint rejects the request as invalid.
            EndpointFailed: all endpoints failed before the first token, or one failed after it.
            EmptyReply: the last endpoint sent nothing that is to be heard.
        """
        primary, *fallback = self._chats
        temperature = self._settings.temperature
        if options is not None and options.temperature is not None:
            temperature = options.temperature
        request = ChatRequest(messages, tools, prefix, temperature)
        attempts = [primary, primary, *fallback]
        while attempts:
            chat, begun, usage = attempts.pop(0), False, Usage()
            model = options.model if options is not None and chat is primary else ""
            try:
                async with aclosing(chat.reply(replace(request, model=model))) as pieces:
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
            except PromptTooLong as error:
                attempts = [other for other in attempts if other is not chat]  # its window may be larger
                if not attempts:
                    raise
                log.warning("endpoint failed", endpoint=chat.url, reason=str(error))
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
        super().__init__(url, reason, pause_s=0.0, details={"code": code})
