"""The llm stage: makes the reply to a turn, in deltas for the eye and sentences for the voice."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from services.llm.engine import ChatModel
from services.llm.sentences import SentenceCutter
from shared.frames import Frame, ReplyDelta, ReplyDone, ReplySentence, TranscriptFinal
from shared.session import Message, SessionSettings
from shared.worker import Work


class LlmStage:
    """Its work is a reply."""

    name = "llm"
    long_lived = False
    interruptible = True

    def __init__(self, model: ChatModel, engine: str) -> None:
        self._model, self._engine = model, engine
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
        reply = _Reply(work, job, settings)
        if work.attempt > 1:
            reply.resume(await work.log())
        deltas = self._model.reply(_messages(job, settings, history), language=settings.language, prefix=reply.text)
        async with aclosing(deltas):
            async for delta in deltas:
                reply.add(delta)
                await work.drain()
        return [reply.done()]

    async def close(self) -> None:
        await self._model.close()


class _Reply:
    """One reply as it grows."""

    def __init__(self, work: Work, job: TranscriptFinal, settings: SessionSettings) -> None:
        spoken = job.options.spoken
        self._spoken = settings.spoken if spoken is None else spoken
        self._work, self._job, self._settings = work, job, settings
        self._cutter = SentenceCutter(settings.language)
        self._sentences = 0
        self.text = ""

    def add(self, delta: str) -> None:
        if not delta:
            return
        job = self._job
        self._work.publish(ReplyDelta(job.turn, job.revision, len(self.text), delta), urgent=False)
        self.text += delta
        if self._spoken:
            self._say(self._cutter.feed(delta))

    def done(self) -> Frame:
        if self._spoken:
            self._say(self._cutter.finish())
        return ReplyDone(self._job.turn, self._job.revision, self.text, self._sentences)

    def _say(self, sentences: Sequence[str]) -> None:
        job, settings = self._job, self._settings
        for text in sentences:
            spoken_as = (settings.voice, settings.speed, settings.language)
            self._work.publish(ReplySentence(job.session, job.turn, job.revision, self._sentences, text, *spoken_as))
            self._sentences += 1

    def resume(self, log: Sequence[Frame]) -> None:
        """An earlier attempt was cut off: go on after what it said, so that nobody hears anything twice."""
        at = (self._job.turn, self._job.revision)
        for frame in log:
            match frame:
                case ReplyDelta(turn, revision, offset, text) if (turn, revision) == at and offset <= len(self.text):
                    self.text = self.text[:offset] + text
                case ReplySentence(turn=turn, revision=revision, index=index) if (turn, revision) == at:
                    self._sentences = max(self._sentences, index + 1)
                case _:
                    pass
        said = self._sentences
        self._sentences = 0
        ready = self._cutter.feed(self.text) if self._spoken else []
        self._say(ready[said:] if said <= len(ready) else [])
        self._sentences = max(said, len(ready))


def _messages(job: TranscriptFinal, settings: SessionSettings, history: Sequence[Message]) -> list[Message]:
    """The conversation as the model gets it: instructions, what was said before, this turn."""
    wanted = job.options.instructions
    instructions = settings.instructions if wanted is None else wanted
    messages = [Message("system", instructions, 0)] if instructions else []
    messages += [message for message in history if message.turn < job.turn]
    if job.text:
        messages.append(Message("user", job.text, job.turn))
    return messages
