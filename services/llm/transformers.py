"""Any chat model of transformers, many conversations at once by the library's continuous batching.

Each step of the model advances every reply by a token; a reply begins and ends whenever it does, and a cancelled one leaves
at the next token. The tokens that two conversations, or two turns of one, begin with are calculated once, where the library
can share them.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

import structlog

from services.llm.chat import ChatFormat, ReplyReader
from shared.devices import device_kind, lost, open_device, quantized
from shared.engines import EngineLost, UnknownEngine
from shared.models import find_model, model_name
from shared.session import Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()

LONGEST_CONTEXT = 8192
"""Tokens of a conversation where the settings name none: half an hour of talk, and models promise more than they hold."""

CACHE_TOKENS_ON_CPU = 16_384
PAGE = {"cuda": 256, "cpu": 32, "mps": 32}
"""Tokens of a page of the cache: what flash attention takes on a GPU; elsewhere small, so that more is shared."""

STALLED_S = 60.0
STOP_S = 10.0


class TransformersModel:
    """See `engine.ChatModel`."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._numbers = count()
        self._model: Any = None
        self._tokenizer: Any = None
        self._format: ChatFormat
        self._manager: Any = None
        self._limit = 0  # tokens of a prompt

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        await asyncio.to_thread(self._load)
        async for _ in self._generate([Message("user", "Hello.", 1)], "", (), tokens=4):
            pass

    def _load(self) -> None:
        try:
            import transformers
        except ImportError as error:
            raise UnknownEngine(f"the engine transformers needs {error.name}: pip install 'parley[neural]'") from error
        settings, library = self._settings, _quiet(transformers)
        name = model_name("llm", "transformers", settings.llm_model, device_kind(settings))
        folder = find_model(name)
        device = open_device(settings)
        try:
            config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
            if type(config) not in library.AutoModelForCausalLM._model_mapping:  # noqa: SLF001
                raise UnknownEngine(f"{name} is a model of the kind {config.model_type!r}, which is no chat model")
            self._tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._format = ChatFormat(self._tokenizer)
            loaded = library.AutoModelForCausalLM.from_pretrained(folder, dtype=device.dtype, local_files_only=True)
        except UnknownEngine as error:
            raise UnknownEngine(f"{name}: {error}") from None
        except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
            raise UnknownEngine(f"{name} cannot be loaded: {str(error).splitlines()[0]}") from error
        self._model = quantized(loaded.to(device.name).eval(), settings, device)
        window = getattr(config.get_text_config(), "max_position_embeddings", None) or LONGEST_CONTEXT
        longest = min(settings.context_tokens or LONGEST_CONTEXT, window)
        self._limit = longest - settings.reply_tokens
        if self._limit < 64:
            raise UnknownEngine(
                f"{name} takes {longest} tokens, and PARLEY_REPLY_TOKENS={settings.reply_tokens} leaves no room to ask"
            )
        self._manager = self._begin(library, device.kind, longest)

    def _begin(self, library: Any, kind: str, longest: int) -> Any:
        """The library's manager, at work."""
        settings = self._settings
        generation = self._model.generation_config
        generation.max_length = None
        generation.do_sample = settings.temperature > 0
        generation.temperature = settings.temperature or None
        if not generation.do_sample:
            generation.top_p = generation.top_k = None
        ends = generation.eos_token_id
        self._ends = sorted({*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id} - {None})
        options: dict[str, Any] = {"page_size": PAGE[kind], "max_requests_per_batch": settings.model_slots}
        if kind == "cpu":
            pages = max(CACHE_TOKENS_ON_CPU, 2 * longest) // PAGE[kind]
            options |= {"num_blocks": pages, "max_batch_tokens": 512}
        else:
            options |= {"max_memory_percent": settings.cache_memory}
        if settings.compile:
            options["default_compile_level"] = 1
        config = library.ContinuousBatchingConfig(**options)
        manager = self._model.init_continuous_batching(generation, config)
        if kind == "cuda":
            manager.warmup()
        manager.start()
        return manager

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall, None]:
        """See `engine.ChatModel`.

        Raises:
            ValueError: the turn is too long for the model.
            EngineLost: the device has failed, or no token comes any more.
        """
        async for item in self._generate(messages, prefix, tools, tokens=self._settings.reply_tokens):
            yield item

    async def _generate(
        self, messages: Sequence[Message], prefix: str, tools: Sequence[Tool], *, tokens: int
    ) -> AsyncGenerator[str | ToolCall, None]:
        prompt, given = await asyncio.to_thread(self._format.encode, messages, tools, prefix, self._limit)
        reader = ReplyReader(self._tokenizer, self._model, prompt, prefix, tools)
        # Unbounded in name only: a reply has at most `tokens` of them.
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        request, finished = f"reply-{next(self._numbers)}", False
        self._manager.register_result_handler(request, outputs.put_nowait)
        try:
            accepted = self._manager.add_request(
                given, request_id=request, max_new_tokens=tokens, eos_token_id=self._ends, streaming=True
            )
            if accepted is None:
                raise self._end(None)
            while not finished:
                output = await self._next(outputs)
                for item in reader.take(_without_end(output.generated_tokens, self._ends)):
                    yield item
                finished = output.is_finished()
                if output.error is not None:
                    raise self._end(output.error)
            for item in reader.finish():
                yield item
        finally:
            if not finished:
                self._manager.cancel_request(request)

    async def _next(self, outputs: asyncio.Queue[Any]) -> Any:
        try:
            async with asyncio.timeout(STALLED_S):
                return await outputs.get()
        except TimeoutError:
            raise EngineLost(f"the chat model has given no token for {STALLED_S:g} s") from None

    def _end(self, error: str | None) -> Exception:
        """What to raise when the manager does not go on with a reply."""
        fatal = self._manager.background_thread_status.fatal_error
        if fatal is None and self._manager.is_running():
            return RuntimeError(f"the chat model gave up this reply: {error}")
        reason = str(fatal or error or "its thread has ended")
        return lost(RuntimeError(reason)) or EngineLost(f"the chat model has stopped: {reason.splitlines()[0]}")

    async def close(self) -> None:
        if self._manager is not None and self._manager.is_running():
            await asyncio.to_thread(self._manager.stop, block=True, timeout=STOP_S, hard_stop=True)


def _without_end(ids: Sequence[int], ends: Sequence[int]) -> Sequence[int]:
    return ids[:-1] if ids and ids[-1] in ends else ids


def _quiet(library: Any) -> Any:
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library
