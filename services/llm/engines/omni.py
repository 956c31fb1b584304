"""Chat models with audio input, some also with audio output: Qwen2-Audio, Voxtral, Qwen2.5-Omni, Qwen3-Omni.

The model generates one reply at a time, because the library cannot batch requests with audio; other replies wait. A
cancelled reply ends at its next token. For more concurrent replies start more workers.

Full-duplex models such as Moshi are not supported: they decide themselves when to speak and when to stop. Here the vad
stage and the edge decide that, in the same way for all models.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import structlog

from services.llm.engine import Usage
from services.llm.engines.omni_model import TALKER_HZ, AudioChatModel
from shared.engines.devices import device_kind, lost, open_device
from shared.engines.models import find_model, model_name
from shared.engines.registry import EngineLost, UnknownEngine
from shared.protocol.session import RATE_HZ, Message, Tool, ToolCall
from shared.protocol.speech import Speech
from shared.settings import Settings

log = structlog.get_logger()

STALLED_S = 120.0
"""Without any output for this time the model is considered dead. The voice of a long reply is generated at its end."""
SLICE_BYTES = 2 * TALKER_HZ // 5
WARM_TOKENS = 4


class Omni:
    """See `engine.OmniModel`."""

    audio_input = True
    audio_output = False
    rate_hz = TALKER_HZ
    slots = 2
    """One reply is generated while the stage reads the audio of the next turn."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: AudioChatModel
        self._free = asyncio.Lock()  # held while a thread uses the model
        self._warned_of_tools = False

    async def load(self) -> None:
        self._model = await asyncio.to_thread(self._load)
        self.audio_output = self._model.speaks
        try:
            async for _ in self._generate((), bytes(2 * RATE_HZ), "", None, WARM_TOKENS):
                pass
        except EngineLost:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise UnknownEngine(f"the model was loaded, but cannot generate a reply: {error}") from error

    def _load(self) -> AudioChatModel:
        self.model_name = name = model_name("llm", "omni", self._settings.llm_model, device_kind(self._settings))
        return AudioChatModel(find_model(name), open_device(self._settings), self._settings)

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        audio: bytes = b"",
        voice: str | None = None,
    ) -> AsyncGenerator[str | ToolCall | Speech | Usage, None]:
        """See `engine.OmniModel`. Tools are ignored. A spoken reply cannot be continued after a prefix."""
        if tools and not self._warned_of_tools:
            self._warned_of_tools = True
            log.warning("tools ignored: the engine omni does not support them")
        if voice is not None and prefix:
            return
        tokens = self._settings.reply_tokens
        async with aclosing(self._generate(messages, audio, prefix, voice, tokens)) as items:
            async for item in items:
                yield item

    async def _generate(
        self, messages: Sequence[Message], audio: bytes, prefix: str, voice: str | None, tokens: int
    ) -> AsyncGenerator[str | Speech | Usage, None]:
        loop = asyncio.get_running_loop()
        # Bounded by the reply: at most `tokens` items, one for each audio code, and the voice.
        output: asyncio.Queue[str | bytes | Exception | None] = asyncio.Queue()
        stop, usage = threading.Event(), Usage()

        def emit(item: str | bytes | Exception | None) -> None:
            if not stop.is_set():
                with suppress(RuntimeError):  # the loop may be closed already
                    loop.call_soon_threadsafe(output.put_nowait, item)

        def generate() -> None:
            import torch

            model = self._model
            with torch.inference_mode():
                usage.window = model.limit
                inputs, usage.left_out = model.prompt(messages, audio, prefix)
                usage.prompt = inputs["input_ids"].shape[-1]
                if voice is None or not model.speaks:
                    model.write(inputs, tokens, emit, stop.is_set, usage)
                else:
                    emit(model.speak(inputs, tokens, voice, emit, stop.is_set, usage))
            if not stop.is_set():
                usage.finish_reason = "stop" if usage.reply < tokens else "length"

        def work() -> None:
            try:
                generate()
                emit(None)
            except Exception as error:  # noqa: BLE001 - any error fails this reply, which raises it on the event loop
                emit(error)
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._free.release)

        await self._free.acquire()
        # A daemon thread, so that the process can exit even if the device hangs.
        threading.Thread(target=work, name="omni", daemon=True).start()
        begun, usage_sent = bool(prefix), False
        try:
            while (item := await self._next(output)) is not None:
                if isinstance(item, Exception):
                    raise lost(item) or item
                if not usage_sent:
                    usage_sent = True
                    yield usage
                if isinstance(item, str):
                    text = item if begun else item.lstrip()
                    begun = begun or bool(text)
                    if text:
                        yield text
                    continue
                for start in range(0, len(item), SLICE_BYTES):
                    yield Speech(item[start : start + SLICE_BYTES])
        finally:
            stop.set()

    async def _next(self, output: asyncio.Queue[Any]) -> Any:
        try:
            async with asyncio.timeout(STALLED_S):
                return await output.get()
        except TimeoutError:
            raise EngineLost(f"the chat model has produced no output for {STALLED_S:g} s") from None

    async def close(self) -> None:
        pass
