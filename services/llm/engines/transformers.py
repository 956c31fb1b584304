"""Any transformers chat model, with the library's continuous batching.

Each step of the model generates one token for every active reply. Replies join and leave the batch at any step; a
cancelled reply leaves at the next one. Common prefixes of prompts share the KV cache where the library supports it.
"""

import asyncio
import queue
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from itertools import count
from typing import Any, cast

import structlog

from services.llm.context.window import DEFAULT_CONTEXT, MIN_PROMPT
from services.llm.engine import Usage
from services.llm.engines.chat_template import ChatTemplate
from services.llm.engines.kv_cache import cache_options
from services.llm.engines.reply_parser import ReplyParser, ResponseFormat
from shared.distribution import not_installed
from shared.engines.devices import device_kind, lost, open_device, quantized
from shared.engines.models import find_model, model_name
from shared.engines.registry import EngineLost, UnknownEngine, first_line
from shared.observability import metrics
from shared.protocol.session import Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()

CHECK_S = 0.5
"""How often a reply that waits for a token checks whether the model is still running."""
STALLED_S, COMPILING_S = 60.0, 600.0
"""Without any step for this time the model is considered dead. Steps take longer while the model is being compiled."""
STOP_S = 10.0


class TransformersModel:
    """See `engine.ChatModel`."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._stalled_s = COMPILING_S if settings.compile else STALLED_S
        self._numbers = count()
        self._running = 0
        self.model_name = ""
        self._model: Any = None
        self._template: ChatTemplate
        self._response_format: ResponseFormat
        self._manager: Any = None
        self._end_ids: list[int] = []
        self._limit = 0  # maximum tokens of a prompt

    async def load(self) -> None:
        try:
            await asyncio.to_thread(self._load)
            async for _ in self._generate([Message("user", "Hello.", 1)], "", (), tokens=4):
                pass
        except RuntimeError as error:
            await self.close()
            if lost(error.__cause__ or error) is not None:
                raise
            raise UnknownEngine(f"{self.model_name} cannot generate a reply: {first_line(error)}") from error
        except BaseException:
            await self.close()
            raise

    def _load(self) -> None:
        try:
            import transformers
        except ImportError as error:
            raise UnknownEngine(not_installed("The transformers engine", "neural", error.name)) from error
        settings, library = self._settings, cast("Any", transformers)
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        self.model_name = name = model_name("llm", "transformers", settings.llm_model, device_kind(settings))
        folder = find_model(name)
        device = open_device(settings)
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = library.AutoConfig.from_pretrained(folder, **local)
            if type(config) not in library.AutoModelForCausalLM._model_mapping or config.is_encoder_decoder:  # noqa: SLF001
                raise UnknownEngine(f"a model of the type {config.model_type!r} is not a chat model")
            tokenizer = library.AutoTokenizer.from_pretrained(folder, **local)
            self._template = ChatTemplate(tokenizer)
            model, info = library.AutoModelForCausalLM.from_pretrained(
                folder, dtype=device.dtype, output_loading_info=True, **local
            )
            if missing := sorted(info["missing_keys"]):
                raise UnknownEngine(f"{len(missing)} weights are missing, such as {missing[0]}")
            if not model._supports_attention_backend:  # noqa: SLF001 - without it, replies are mixed up
                raise UnknownEngine(f"a model of the type {config.model_type!r} does not support continuous batching")
        except UnknownEngine as error:
            raise UnknownEngine(f"{name}: {error}") from None
        except Exception as error:
            if (device_lost := lost(error)) is not None:
                raise device_lost from error
            raise UnknownEngine(f"{name} cannot be loaded: {first_line(error)}") from error
        self._model = quantized(model.to(device.name).eval(), settings, device)
        self._response_format = ResponseFormat(tokenizer, self._model)
        window = getattr(config.get_text_config(), "max_position_embeddings", None) or DEFAULT_CONTEXT
        longest = min(settings.context_tokens or DEFAULT_CONTEXT, window)
        options, longest = cache_options(config.get_text_config(), device, settings, longest)
        self._limit = longest - settings.reply_tokens
        if self._limit < MIN_PROMPT:
            raise UnknownEngine(
                f"{name} has a context of {longest} tokens; PARLEY_REPLY_TOKENS={settings.reply_tokens} leaves no room"
            )
        generation = self._sampling(tokenizer)
        try:
            self._manager = self._start(library, generation, options)
        except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
            raise UnknownEngine(
                f"{name}: continuous batching fails for the type {config.model_type!r}: {first_line(error)}"
            ) from error

    def _sampling(self, tokenizer: Any) -> Any:
        """Return the model's own generation configuration with the temperature of the settings."""
        generation = self._model.generation_config
        generation.max_length = None
        generation.num_beams = generation.num_return_sequences = 1
        generation.do_sample = self._settings.temperature > 0
        generation.temperature = self._settings.temperature or None
        if not generation.do_sample:
            generation.top_p = generation.top_k = None
        eos = generation.eos_token_id
        eos_ids = eos if isinstance(eos, list) else [eos]
        self._end_ids = sorted({*eos_ids, tokenizer.eos_token_id, *self._template.end_ids()} - {None})
        return generation

    def _start(self, library: Any, generation: Any, options: dict[str, Any]) -> Any:
        config = library.ContinuousBatchingConfig(**options, default_compile_level=int(self._settings.compile))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about dropped options, which are logged below
            manager = self._model.init_continuous_batching(generation, config)
            self._log_dropped(manager, generation)
        if self._model.device.type == "cuda":
            manager.warmup()
        # The manager's thread inherits being a daemon from its starter, so that the process can exit even if the device
        # hangs.
        starter = threading.Thread(target=manager.start, daemon=True)
        starter.start()
        starter.join()
        return manager

    def _log_dropped(self, manager: Any, generation: Any) -> None:
        wanted = {type(one).__name__ for one in self._model._get_logits_processor(generation)}  # noqa: SLF001
        if dropped := wanted - {type(one).__name__ for one in manager.logit_processor.logits_processor}:
            log.warning("generation options not supported with continuous batching", dropped=sorted(dropped))

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See `engine.ChatModel`. `Usage.cached` stays 0: the library does not report cache hits."""
        async with aclosing(self._generate(messages, prefix, tools, tokens=self._settings.reply_tokens)) as items:
            async for item in items:
                yield item

    async def _generate(
        self, messages: Sequence[Message], prefix: str, tools: Sequence[Tool], *, tokens: int
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        prompt = await asyncio.to_thread(self._template.fit, messages, tools, self._limit)
        begun = await asyncio.to_thread(self._template.ids, self._template.escaped(prefix)) if prefix else []
        if len(begun) >= tokens:
            return
        parser = ReplyParser(self._response_format, prompt.ids, prefix, tools)
        # Bounded by the reply: at most `tokens` items.
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        request, finished, manager = f"reply-{next(self._numbers)}", False, self._manager
        usage = Usage(window=self._limit, left_out=prompt.left_out)
        manager.register_result_handler(request, outputs.put_nowait)
        self._running += 1
        metrics.batch_size.labels("llm").observe(self._running)
        try:
            accepted = manager.add_request(
                [*prompt.ids, *begun],
                request_id=request,
                max_new_tokens=tokens - len(begun),
                eos_token_id=self._end_ids,
                streaming=True,
            )
            if accepted is None:
                raise await self._failure(None)
            while not finished:
                output = await self._next(outputs)
                finished = output.is_finished()
                ids, text_ids = output.generated_tokens, _without_end(output.generated_tokens, self._end_ids)
                usage.reply = len(ids)
                if ids and not usage.prompt:
                    usage.prompt = len(prompt.ids) + len(begun)
                    yield usage
                if finished and output.error is None:
                    usage.finish_reason = "length" if len(text_ids) == len(ids) else "stop"
                for item in parser.take(text_ids):
                    yield item
                if output.error is not None:
                    raise await self._failure(output.error)
            for item in parser.finish():
                yield item
        finally:
            self._running -= 1
            if not finished:
                manager.cancel_request(request)
            self._forget(request)

    async def _next(self, outputs: asyncio.Queue[Any]) -> Any:
        """Return the next output of a reply. Raises `EngineLost` if the manager has stopped or hangs."""
        step, since = self._steps(), time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    return await outputs.get()
            if not self._is_running() and outputs.empty():
                raise await self._failure(None)
            # A reply may wait long behind other prompts, but then the model makes steps. A hanging device makes none.
            if self._steps() != step:
                step, since = self._steps(), time.monotonic()
            elif time.monotonic() - since > self._stalled_s:
                raise EngineLost(f"the chat model has made no step for {self._stalled_s:g} s")

    def _steps(self) -> int:
        return int(getattr(self._manager, "current_batch", 0))

    def _is_running(self) -> bool:
        manager = self._manager
        return manager.is_running() and manager.background_thread_status.can_accept_new_requests() is None

    async def _failure(self, error: str | None) -> Exception:
        """Return what to raise when the manager has given up a reply."""
        if self._is_running():
            return RuntimeError(f"the chat model gave up this reply: {error}")
        status = self._manager.background_thread_status
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                # The manager fails the replies first, and sets the cause later without any signal.
                while status.fatal_error is None and self._manager.is_running():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        cause = status.fatal_error or RuntimeError(error or "its thread has ended")
        failure = lost(cause) or EngineLost(f"the chat model has stopped: {first_line(cause)}")
        failure.__cause__ = cause
        return failure

    def _forget(self, request: str) -> None:
        """Drop the library's references to a reply: its handler, and later outputs in a queue that nobody reads."""
        router = self._manager.output_router
        router.result_handlers.pop(request, None)
        try:
            while True:
                router.output_queue.get_nowait()
        except queue.Empty:
            pass

    async def close(self) -> None:
        if self._manager is not None and self._manager.is_running():
            await asyncio.to_thread(self._manager.stop, block=True, timeout=STOP_S, hard_stop=True)


def _without_end(ids: Sequence[int], end_ids: Sequence[int]) -> Sequence[int]:
    return ids[:-1] if ids and ids[-1] in end_ids else ids
