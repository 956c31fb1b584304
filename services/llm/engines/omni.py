"""A chat model that hears the person itself, and may speak itself: Qwen2-Audio, Voxtral, Qwen2.5-Omni, Qwen3-Omni.

One reply at a time, as the library cannot make several with sound in them at once; what comes meanwhile waits its turn, and
a reply that nobody wants any more ends at its next token. More replies at once are more workers.

Models that talk without turns, hearing while they speak (Moshi and its kin), have no place here: they decide themselves when
to speak and when to stop, which here is done once for all models, by turn-taking and by the edge.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

import structlog

from services.llm.engine import Usage
from services.llm.engines.omni_model import TALKER_HZ, HearingModel
from shared.engines.devices import device_kind, lost, open_device
from shared.engines.models import find_model, model_name
from shared.engines.registry import EngineLost, UnknownEngine
from shared.protocol.session import RATE_HZ, Message, Tool, ToolCall
from shared.protocol.speech import Speech
from shared.settings import Settings

log = structlog.get_logger()

STALLED_S = 120.0
"""A model that gives neither a word nor a sound for so long will give none; the voice of a long reply is made at its end."""
SLICE_BYTES = 2 * TALKER_HZ // 5
WARM_TOKENS = 4


class Omni:
    """See `engine.OmniModel`."""

    hears = True
    speaks = False
    rate_hz = TALKER_HZ
    slots = 2
    """One is being made; of the next, what was said is read meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: HearingModel
        self._free = asyncio.Lock()  # held while a thread is at the model
        self._told_of_tools = False

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        self._model = await asyncio.to_thread(self._load)
        self.speaks = self._model.speaks
        try:
            await self._warm_up()
        except EngineLost:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise UnknownEngine(f"the model was loaded, but answers nothing: {error}") from error

    def _load(self) -> HearingModel:
        name = model_name("llm", "omni", self._settings.llm_model, device_kind(self._settings))
        return HearingModel(find_model(name), open_device(self._settings), self._settings)

    async def _warm_up(self) -> None:
        async for _ in self._generate((), bytes(2 * RATE_HZ), "", None, WARM_TOKENS):
            pass

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
        """See `engine.OmniModel`. It is told of no tools. A reply that it has begun to say aloud cannot be gone on with.

        Raises:
            ValueError: the turn is too long for the model.
            EngineLost: the device has failed, or nothing comes any more.
        """
        if tools and not self._told_of_tools:
            self._told_of_tools = True
            log.warning("the engine omni knows no tools: its model is not told of them")
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
        # Unbounded in name only: a reply has at most `tokens` of them, and a voice.
        made: asyncio.Queue[str | bytes | Exception | None] = asyncio.Queue()
        stop, usage = threading.Event(), Usage()

        def tell(item: str | bytes | Exception | None) -> None:
            if not stop.is_set():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(made.put_nowait, item)

        def work() -> None:
            self._answer(messages, audio, prefix, voice, tokens, tell, stop, usage)
            with suppress(RuntimeError):  # the loop may have ended before
                loop.call_soon_threadsafe(self._free.release)

        await self._free.acquire()
        # A daemon: no exit of this process waits for a dead device.
        threading.Thread(target=work, name="omni", daemon=True).start()
        begun, told = bool(prefix), False
        try:
            while (item := await self._next(made)) is not None:
                if isinstance(item, Exception):
                    raise lost(item) or item
                if not told:
                    told = True
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

    def _answer(
        self,
        messages: Sequence[Message],
        audio: bytes,
        prefix: str,
        voice: str | None,
        tokens: int,
        tell: Callable[[str | bytes | Exception | None], None],
        stop: threading.Event,
        usage: Usage,
    ) -> None:
        """In the thread."""
        import torch

        model = self._model
        try:
            with torch.inference_mode():
                inputs = model.prompt(messages, audio, prefix)
                usage.prompt = inputs["input_ids"].shape[-1]
                if voice is None or not model.speaks:
                    model.write(inputs, tokens, tell, stop.is_set, usage)
                else:
                    tell(model.speak(inputs, tokens, voice, tell, stop.is_set, usage))
            if not stop.is_set():
                usage.finish_reason = "stop" if usage.reply < tokens else "length"
            tell(None)
        except Exception as error:  # noqa: BLE001 - of whatever kind: it is the reply's, which is told
            tell(error)

    async def _next(self, made: asyncio.Queue[Any]) -> Any:
        try:
            async with asyncio.timeout(STALLED_S):
                return await made.get()
        except TimeoutError:
            raise EngineLost(f"the chat model has given nothing for {STALLED_S:g} s") from None

    async def close(self) -> None:
        pass
