"""The llm stage: makes the reply to a turn, in deltas for the eye and sentences for the voice."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from services.llm.engine import ChatModel
from services.llm.sentences import SentenceCutter
from services.llm.spoken import speakable
from shared.frames import Frame, ReplyDelta, ReplyDone, ReplySentence, ReplyStarted, ToolCalled, TranscriptFinal
from shared.prompt import basis, offered, prompt
from shared.session import Message, SessionSettings, Tool, ToolCall
from shared.worker import Work

log = structlog.get_logger()


class LlmStage:
    """Its work is a reply."""

    name = "llm"
    long_lived = False
    interruptible = True

    def __init__(self, model: ChatModel, engine: str, first_words: int) -> None:
        self._model, self._engine, self._first_words = model, engine, first_words
        self.slots = model.slots

    async def load(self) -> None:
        await self._model.load()

    def info(self) -> dict[str, Any]:
        return {"engine": self._engine, "slots": self.slots}

    async def work(self, work: Work) -> Sequence[Frame]:
        """Reply to the turn, if a reply is wanted."""
        job = work.frame
        if not isinstance(job, TranscriptFinal):
            raise TypeError(f"{type(job).__name__} is no turn")
        if not job.options.wanted:
            return ()
        settings, history = await work.conversation()
        messages = prompt(settings, job.options, history, job.turn, job.text)
        work.publish(ReplyStarted(job.turn, job.revision, basis(settings, job.options, messages)), urgent=False)
        tools = offered(settings, job.options)
        reply = _Reply(work, job, settings, self._first_words)
        if work.attempt > 1:
            reply.resume(await work.log())
        async with aclosing(self._deltas(job, messages, settings.language, reply.text, tools)) as deltas:
            async for delta in deltas:
                if isinstance(delta, str):
                    reply.add(delta)
                elif any(tool.name == delta.name for tool in tools):
                    reply.call(delta)
                else:
                    log.warning("model asks for no tool of ours", session=job.session, name=delta.name[:64])
                await work.drain()
        return reply.done()

    def _deltas(
        self, job: TranscriptFinal, messages: Sequence[Message], language: str, prefix: str, tools: Sequence[Tool]
    ) -> AsyncGenerator[str | ToolCall, None]:
        say = job.options.say
        if say is not None:
            return _recite(say, prefix)
        return self._model.reply(messages, language=language, prefix=prefix, tools=tools)

    async def close(self) -> None:
        await self._model.close()


async def _recite(text: str, prefix: str) -> AsyncGenerator[str | ToolCall, None]:
    """What is to be said word for word, after what was said of it already."""
    if text.startswith(prefix):
        yield text[len(prefix) :]


class _Reply:
    """One reply as it grows."""

    def __init__(self, work: Work, job: TranscriptFinal, settings: SessionSettings, first_words: int) -> None:
        spoken = job.options.spoken
        self._spoken = settings.spoken if spoken is None else spoken
        self._work, self._job, self._settings = work, job, settings
        self._cutter = SentenceCutter(settings.language, first_words)
        self._sentences = self._said_before = 0
        self._calls: list[ToolCall] = []
        self.text = ""

    def add(self, delta: str) -> None:
        if not delta:
            return
        job = self._job
        self._work.publish(ReplyDelta(job.turn, job.revision, len(self.text), delta), urgent=False)
        self.text += delta
        if self._spoken:
            self._say(self._cutter.feed(delta))

    def call(self, call: ToolCall) -> None:
        """Kept to the end, as what must not be done twice: the last frames and the end of the work are one step."""
        self._calls.append(call)

    def done(self) -> Sequence[Frame]:
        if self._spoken:
            self._say(self._cutter.finish())
        at = (self._job.turn, self._job.revision)
        calls = [ToolCalled(*at, call) for call in self._calls]
        return [*calls, ReplyDone(*at, self.text, self._sentences)]

    def _say(self, pieces: Sequence[str]) -> None:
        """Give these to be spoken, but for what an earlier attempt has given."""
        job, settings = self._job, self._settings
        for piece in pieces:
            if text := speakable(piece):
                if self._sentences >= self._said_before:
                    spoken_as = (settings.voice, settings.speed, settings.language)
                    place = (job.session, job.turn, job.revision, self._sentences)
                    self._work.publish(ReplySentence(*place, text, *spoken_as))
                self._sentences += 1

    def resume(self, log: Sequence[Frame]) -> None:
        """An earlier attempt was cut off: go on after what it said, so that nobody hears anything twice."""
        at = (self._job.turn, self._job.revision)
        for frame in log:
            match frame:
                case ReplyDelta(turn, revision, offset, text) if (turn, revision) == at and offset <= len(self.text):
                    self.text = self.text[:offset] + text
                case ReplySentence(turn=turn, revision=revision, index=index) if (turn, revision) == at:
                    self._said_before = max(self._said_before, index + 1)
                case _:
                    pass
        if self._spoken:
            self._say(self._cutter.feed(self.text))
