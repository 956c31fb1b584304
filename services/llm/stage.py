"""The llm stage: makes the reply to a turn, in deltas for the eye and sentences for the voice."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from services.llm.engine import ChatModel, OmniModel, hears, speaks
from services.llm.meter import metered, start_at_zero
from services.llm.reply import Reply, is_mute, is_spoken
from services.llm.sound import sound_of
from services.llm.tracing import describe_reply, describe_request
from shared.protocol.frames import Frame, ReplyStarted, TranscriptFinal, TurnAudioReady
from shared.protocol.prompt import SOUND, offered, prompt, prompt_hash
from shared.protocol.session import OMNI, Message, SessionSettings, Tool, ToolCall
from shared.protocol.speech import Speech
from shared.worker.work import Work

log = structlog.get_logger()

Job = TranscriptFinal | TurnAudioReady
Deltas = AsyncGenerator[str | ToolCall | Speech, None]


class LlmStage:
    """Its work is a reply."""

    name = "llm"
    long_lived = False
    interruptible = True

    def __init__(self, model: ChatModel | OmniModel, engine: str, first_words: int) -> None:
        self._model: Any = model
        self._engine, self._first_words = engine, first_words
        self.slots = model.slots

    async def load(self) -> None:
        await self._model.load()
        start_at_zero(self._engine)

    def info(self) -> dict[str, Any]:
        model = self._model
        return {"engine": self._engine, "slots": self.slots, "hears": hears(model), "speaks": speaks(model)}

    async def work(self, work: Work) -> Sequence[Frame]:
        """Reply to the turn, if a reply is wanted: to its words, or to its sound."""
        job = work.frame
        if not isinstance(job, Job):
            raise TypeError(f"{type(job).__name__} is no turn")
        if not job.options.wants_reply:
            return ()
        settings, history = await work.conversation()
        earlier = await work.log() if work.attempt > 1 else ()
        audio = b""
        if isinstance(job, TurnAudioReady):
            audio = await self._sound(work, job, settings)
            history = tuple(one for one in history if one.role != "user" or one.turn != job.spoken)
        messages = prompt(
            settings, job.options, history, job.turn, SOUND if isinstance(job, TurnAudioReady) else job.text
        )
        rate_hz = 0 if is_mute(job, earlier) else self._voice_hz(job, settings)
        told = prompt_hash(settings, job.options, messages)
        describe_request(work, messages, voiced=bool(rate_hz))
        work.publish(ReplyStarted(job.turn, job.revision, told, bool(rate_hz)), urgent=False)
        if audio:
            messages.pop()  # it was heard, not written
        reply = Reply(work, job, settings, self._first_words, rate_hz)
        reply.resume(earlier)
        tools = offered(settings, job.options)
        also: dict[str, Any] = {"audio": audio} if audio else {}
        if rate_hz:
            also["voice"] = settings.voice
        async with aclosing(self._deltas(work, job, messages, settings.language, reply.text, tools, also)) as deltas:
            async for delta in deltas:
                if isinstance(delta, str):
                    reply.add(delta)
                elif isinstance(delta, Speech):
                    reply.speak(delta)
                elif any(tool.name == delta.name for tool in tools):
                    reply.call(delta)
                else:
                    log.warning("model asks for no tool of ours", session=job.session, name=delta.name[:64])
                await work.drain()
        frames = reply.done()
        describe_reply(work, reply.text)
        return frames

    async def _sound(self, work: Work, job: TurnAudioReady, settings: SessionSettings) -> bytes:
        if not hears(self._model):
            raise ValueError(f"the engine {self._engine} cannot hear, and the turn is to be answered as it sounds")
        return await sound_of(work, job, settings.longest_ms)

    def _voice_hz(self, job: Job, settings: SessionSettings) -> int:
        """Rate of the voice with which the model itself speaks this reply; 0: it does not. It says nothing word for word."""
        omni = isinstance(job, TurnAudioReady) or settings.route == OMNI
        own = omni and speaks(self._model) and job.options.say is None and is_spoken(job, settings)
        return int(self._model.rate_hz) if own else 0

    def _deltas(
        self,
        work: Work,
        job: Job,
        messages: Sequence[Message],
        language: str,
        prefix: str,
        tools: Sequence[Tool],
        also: dict[str, Any],
    ) -> Deltas:
        if job.options.say is not None:
            return _recite(job.options.say, prefix)
        asked = self._model.reply(messages, language=language, prefix=prefix, tools=tools, **also)
        return metered(work, self._engine, asked)

    async def close(self) -> None:
        await self._model.close()


async def _recite(text: str, prefix: str) -> Deltas:
    """What is to be said word for word, after what was said of it already."""
    if text.startswith(prefix):
        yield text[len(prefix) :]
