"""Any chat model of transformers, many conversations at once by the library's continuous batching.

Each step of the model advances every reply by a token; a reply begins and ends whenever it does, and a cancelled one leaves
at the next token. The tokens that two conversations, or two turns of one, begin with are calculated once, where the library
can share them.
"""

import asyncio
import queue
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from itertools import count
from typing import Any

import structlog

from services.llm.engine import Usage
from services.llm.engines.cache import cache_options
from services.llm.engines.chat import ChatFormat
from services.llm.engines.markup import Markup, ReplyReader
from shared.distribution import not_installed
from shared.engines.devices import device_kind, lost, open_device, quantized
from shared.engines.models import find_model, model_name
from shared.engines.registry import EngineLost, UnknownEngine
from shared.observability import metrics
from shared.protocol.session import Message, Tool, ToolCall
from shared.settings import Settings

log = structlog.get_logger()

LONGEST_CONTEXT = 8192
"""Tokens of a conversation where the settings name none: half an hour of talk, and models promise more than they hold."""

LEAST_PROMPT = 64
LOOK_S = 0.5
"""How often a reply that waits for a token looks whether the model is still at work."""
STALLED_S, COMPILING_S = 60.0, 600.0
"""A step of the model that takes longer than this, of all replies, will not end."""
STOP_S = 10.0


class TransformersModel:
    """See `engine.ChatModel`."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._stalled_s = COMPILING_S if settings.compile else STALLED_S
        self._numbers = count()
        self._running = 0
        self._name = ""
        self._model: Any = None
        self._format: ChatFormat
        self._markup: Markup
        self._manager: Any = None
        self._ends: list[int] = []
        self._limit = 0  # tokens of a prompt

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        try:
            await asyncio.to_thread(self._load)
            async for _ in self._generate([Message("user", "Hello.", 1)], "", (), tokens=4):
                pass
        except RuntimeError as error:
            await self.close()
            if lost(error.__cause__ or error) is not None:
                raise
            raise UnknownEngine(f"{self._name} does not run: {_first_line(error)}") from error
        except BaseException:
            await self.close()
            raise

    def _load(self) -> None:
        try:
            import transformers
        except ImportError as error:
            raise UnknownEngine(not_installed("The transformers engine", "neural", error.name)) from error
        settings, library = self._settings, _quiet(transformers)
        self._name = name = model_name("llm", "transformers", settings.llm_model, device_kind(settings))
        folder = find_model(name)
        device = open_device(settings)
        from_here = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = library.AutoConfig.from_pretrained(folder, **from_here)
            if type(config) not in library.AutoModelForCausalLM._model_mapping or config.is_encoder_decoder:  # noqa: SLF001
                raise UnknownEngine(f"it is a model of the kind {config.model_type!r}, which is no chat model")
            tokenizer = library.AutoTokenizer.from_pretrained(folder, **from_here)
            self._format = ChatFormat(tokenizer)
            loaded, found = library.AutoModelForCausalLM.from_pretrained(
                folder, dtype=device.dtype, output_loading_info=True, **from_here
            )
            if missing := sorted(found["missing_keys"]):
                raise UnknownEngine(f"its weights lack {len(missing)} of what it is made of, {missing[0]} the first")
            if not loaded._supports_attention_backend:  # noqa: SLF001 - without it, replies would be mixed up in silence
                raise UnknownEngine(f"the kind {config.model_type!r} cannot make many replies at once")
        except UnknownEngine as error:
            raise UnknownEngine(f"{name}: {error}") from None
        except Exception as error:
            if (gone := lost(error)) is not None:
                raise gone from error
            raise UnknownEngine(f"{name} cannot be loaded: {_first_line(error)}") from error
        self._model = quantized(loaded.to(device.name).eval(), settings, device)
        self._markup = Markup(tokenizer, self._model)
        window = getattr(config.get_text_config(), "max_position_embeddings", None) or LONGEST_CONTEXT
        longest = min(settings.context_tokens or LONGEST_CONTEXT, window)
        options, longest = cache_options(config.get_text_config(), device, settings, longest)
        self._limit = longest - settings.reply_tokens
        if self._limit < LEAST_PROMPT:
            raise UnknownEngine(
                f"{name} takes {longest} tokens, and PARLEY_REPLY_TOKENS={settings.reply_tokens} leaves no room to ask"
            )
        generation = self._sampling(tokenizer)
        try:
            self._manager = self._begin(library, generation, options)
        except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
            raise UnknownEngine(
                f"{name}: the library cannot run the kind {config.model_type!r} so: {_first_line(error)}"
            ) from error

    def _sampling(self, tokenizer: Any) -> Any:
        """How the model's own configuration says to choose words, at the temperature of the settings."""
        generation = self._model.generation_config
        generation.max_length = None
        generation.num_beams = generation.num_return_sequences = 1
        generation.do_sample = self._settings.temperature > 0
        generation.temperature = self._settings.temperature or None
        if not generation.do_sample:
            generation.top_p = generation.top_k = None
        ends = generation.eos_token_id
        own = ends if isinstance(ends, list) else [ends]
        self._ends = sorted({*own, tokenizer.eos_token_id, *self._format.ends()} - {None})
        return generation

    def _begin(self, library: Any, generation: Any, options: dict[str, Any]) -> Any:
        """The library's manager, at work."""
        config = library.ContinuousBatchingConfig(**options, default_compile_level=int(self._settings.compile))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is left out, which we tell better
            manager = self._model.init_continuous_batching(generation, config)
            self._tell_dropped(manager, generation)
        if self._model.device.type == "cuda":
            manager.warmup()
        # Its thread is a daemon where the one that starts it is: no exit of this process waits for a dead device.
        starter = threading.Thread(target=manager.start, daemon=True)
        starter.start()
        starter.join()
        return manager

    def _tell_dropped(self, manager: Any, generation: Any) -> None:
        wanted = {type(one).__name__ for one in self._model._get_logits_processor(generation)}  # noqa: SLF001
        if dropped := wanted - {type(one).__name__ for one in manager.logit_processor.logits_processor}:
            log.warning("model asks for what cannot be done for many replies at once", left_out=sorted(dropped))

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See `engine.ChatModel`. What other conversations begin with too is not counted as cached: the library does not tell.

        Raises:
            ValueError: the turn is too long for the model.
            EngineLost: the device has failed, or no token comes any more.
        """
        async with aclosing(self._generate(messages, prefix, tools, tokens=self._settings.reply_tokens)) as items:
            async for item in items:
                yield item

    async def _generate(
        self, messages: Sequence[Message], prefix: str, tools: Sequence[Tool], *, tokens: int
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        prompt, said = await asyncio.to_thread(self._format.encode, messages, tools, prefix, self._limit)
        if len(said) >= tokens:
            return
        reader = ReplyReader(self._markup, prompt, prefix, tools)
        # Unbounded in name only: a reply has at most `tokens` of them.
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        request, finished, manager = f"reply-{next(self._numbers)}", False, self._manager
        usage = Usage()
        manager.register_result_handler(request, outputs.put_nowait)
        self._running += 1
        metrics.batch_size.labels("llm").observe(self._running)
        try:
            accepted = manager.add_request(
                [*prompt, *said],
                request_id=request,
                max_new_tokens=tokens - len(said),
                eos_token_id=self._ends,
                streaming=True,
            )
            if accepted is None:
                raise await self._end(None)
            while not finished:
                output = await self._next(outputs)
                finished = output.is_finished()
                ids, spoken = output.generated_tokens, _without_end(output.generated_tokens, self._ends)
                usage.reply = len(ids)
                if ids and not usage.prompt:
                    usage.prompt = len(prompt) + len(said)
                    yield usage
                if finished and output.error is None:
                    usage.finish_reason = "length" if len(spoken) == len(ids) else "stop"
                for item in reader.take(spoken):
                    yield item
                if output.error is not None:
                    raise await self._end(output.error)
            for item in reader.finish():
                yield item
        finally:
            self._running -= 1
            if not finished:
                manager.cancel_request(request)
            self._forget(request)

    async def _next(self, outputs: asyncio.Queue[Any]) -> Any:
        """What the manager says next of a reply. Raises `EngineLost` if it has ended, or hangs."""
        step, since = self._steps(), time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    return await outputs.get()
            if not self._works() and outputs.empty():
                raise await self._end(None)
            # A long conversation before this one keeps it waiting; a device that hangs makes no step at all.
            if self._steps() != step:
                step, since = self._steps(), time.monotonic()
            elif time.monotonic() - since > self._stalled_s:
                raise EngineLost(f"the chat model has made no step for {self._stalled_s:g} s")

    def _steps(self) -> int:
        return int(getattr(self._manager, "current_batch", 0))

    def _works(self) -> bool:
        manager = self._manager
        return manager.is_running() and manager.background_thread_status.can_accept_new_requests() is None

    async def _end(self, error: str | None) -> Exception:
        """What to raise when the manager does not go on with a reply."""
        if self._works():
            return RuntimeError(f"the chat model gave up this reply: {error}")
        status = self._manager.background_thread_status
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                # It tells the replies before it notes the cause, of which nobody is told.
                while status.fatal_error is None and self._manager.is_running():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        cause = status.fatal_error or RuntimeError(error or "its thread has ended")
        gone = lost(cause) or EngineLost(f"the chat model has stopped: {_first_line(cause)}")
        gone.__cause__ = cause
        return gone

    def _forget(self, request: str) -> None:
        """The library keeps what it would say of a cancelled reply: to a handler, or in a queue that nobody reads."""
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


def _without_end(ids: Sequence[int], ends: Sequence[int]) -> Sequence[int]:
    return ids[:-1] if ids and ids[-1] in ends else ids


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _quiet(library: Any) -> Any:
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library
