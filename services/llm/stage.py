"""The llm stage: generates the reply to a turn, as text deltas and as sentences for the tts stage."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import structlog

from services.llm.engine import (
    ChatModel,
    EmptyReply,
    OmniModel,
    PromptTooLong,
    Usage,
    chat_options,
    has_audio_input,
    has_audio_output,
    why_cut,
)
from services.llm.hidden_text import HiddenText, without_hidden_text
from services.llm.limit import SentenceLimit, end_with_a_sentence
from services.llm.observation import describe_reply, describe_request, measured, start_at_zero
from services.llm.reply import Reply, is_spoken, is_unvoiced
from services.llm.summaries import Summaries
from services.llm.turn_audio import read_turn_audio
from shared.engines.registry import model_of
from shared.protocol.frames import Frame, ReplyStarted, SummaryRequested, TranscriptFinal, TurnAudioReady
from shared.protocol.prompt import SOUND, offered, prompt, prompt_hash
from shared.protocol.reasons import EMPTY_REPLY, PROMPT_TOO_LONG, UNKNOWN_TOOL
from shared.protocol.session import OMNI, Message, SessionSettings, Tool, ToolCall
from shared.protocol.speech import Speech
from shared.worker.work import JobFailed, Work

log = structlog.get_logger()

ATTEMPTS = 2
"""How often a model is asked for a reply before nothing was said."""

Job = TranscriptFinal | TurnAudioReady
Deltas = AsyncGenerator[str | ToolCall | Speech | Usage, None]


class LlmStage:
    """A stage whose unit of work is one reply."""

    name = "llm"
    long_lived = False
    interruptible = True

    def __init__(
        self,
        model: ChatModel | OmniModel,
        engine: str,
        first_words: int,
        reply_tokens: int,
        summaries: Summaries | None = None,
    ) -> None:
        """`first_words`: see `SentenceCutter`. `reply_tokens`: longest length of a reply. `summaries`: None: none are made."""
        self._summaries = summaries
        self._model: Any = model
        self._engine, self._first_words, self._reply_tokens = engine, first_words, reply_tokens
        self.slots = model.slots

    async def load(self) -> None:
        await self._model.load()
        if self._summaries is not None:
            await self._summaries.load(self._model)
        start_at_zero(self._engine)

    def info(self) -> dict[str, Any]:
        return {
            "engine": self._engine,
            "model": model_of(self._model),
            "slots": self.slots,
            "hears": has_audio_input(self._model),
            "speaks": has_audio_output(self._model),
            "options": sorted(chat_options(self._model)),
        }

    async def work(self, work: Work) -> Sequence[Frame]:
        """Reply to the turn's transcript or to its audio, if a reply is wanted.

        Raises:
            ValueError: the engine cannot answer audio, or the audio is gone.
            JobFailed: the model says nothing, or the turn is too long for it.
        """
        job = work.frame
        if isinstance(job, SummaryRequested):
            if self._summaries is not None:
                await self._summaries.make(work, job)
            return ()
        if not isinstance(job, Job):
            raise TypeError(f"expected TranscriptFinal or TurnAudioReady, got {type(job).__name__}")
        if not job.options.wants_reply:
            return ()
        settings, history = await work.conversation()
        earlier = await work.log() if work.attempt > 1 else ()
        audio = b""
        if isinstance(job, TurnAudioReady):
            if not has_audio_input(self._model):
                raise ValueError(f"the engine {self._engine} has no audio input: it cannot answer the audio of a turn")
            audio = await read_turn_audio(work, job, settings.longest_ms)
            # The model gets the turn as audio only, not its transcript as well.
            history = tuple(one for one in history if one.role != "user" or one.turn != job.spoken)
        messages = prompt(
            settings, job.options, history, job.turn, SOUND if isinstance(job, TurnAudioReady) else job.text
        )
        rate_hz = 0 if is_unvoiced(job, earlier) else self._voice_hz(job, settings)
        prompted = prompt_hash(settings, job.options, messages)
        work.publish(ReplyStarted(job.turn, job.revision, prompted, bool(rate_hz)), urgent=False)
        if self._summaries is not None:  # no part of the hash: the conversation is the same
            messages = await self._summaries.put_into(messages, work)
        describe_request(work, messages, voiced=bool(rate_hz))
        if audio:
            messages.pop()  # the placeholder for the audio
        reply = Reply(work, job, settings, self._first_words, rate_hz)
        reply.resume(earlier)
        tools = offered(settings, job.options)
        request: dict[str, Any] = {"language": settings.language, "prefix": reply.text, "tools": tools}
        if audio:
            request["audio"] = audio
        if rate_hz:
            request["voice"] = settings.voice
        if settings.chat.asked() & chat_options(self._model):
            request["options"] = settings.chat
        if job.options.say is not None:
            taken = await self._take(work, reply, _recite(job.options.say, reply.text), ())
        else:
            longest = min(settings.chat.reply_tokens or self._reply_tokens, self._reply_tokens)
            try:
                for _ in range(ATTEMPTS):
                    generated = without_hidden_text(
                        self._model.reply(messages, **request), HiddenText(begun=bool(reply.text))
                    )
                    if not rate_hz:  # a model's own voice goes on where its text ends
                        limit = SentenceLimit(settings.language, longest, reply.text)
                        generated = end_with_a_sentence(generated, limit)
                    taken = await self._take(work, reply, measured(work, self._engine, generated), tools)
                    if not reply.is_empty:
                        break
                    messages = [*messages, *_without_such_tools(job.turn, taken.unknown)]
                else:
                    raise EmptyReply(f"the model has answered {ATTEMPTS} times without a word", taken.why_empty)
            except EmptyReply as error:  # as it would be in another attempt
                raise JobFailed(str(error), error.code) from None
            except PromptTooLong as error:
                raise JobFailed(str(error), PROMPT_TOO_LONG) from None
        describe_reply(work, reply.text)
        summary = self._summaries.request(work, messages, taken.usage) if self._summaries is not None else ()
        return [*reply.done(taken.cut), *summary]

    async def _take(self, work: Work, reply: Reply, deltas: Deltas, tools: Sequence[Tool]) -> "_Taken":
        """Take a model's reply."""
        unknown: list[ToolCall] = []
        usage = Usage()
        async with aclosing(deltas):
            async for delta in deltas:
                if isinstance(delta, Usage):
                    usage = delta
                elif isinstance(delta, str):
                    reply.add(delta)
                elif isinstance(delta, Speech):
                    reply.speak(delta)
                elif any(tool.name == delta.name for tool in tools):
                    reply.call(delta)
                else:
                    log.warning("model called an unknown tool", session=work.session, name=delta.name[:64])
                    unknown.append(delta)
                await work.drain()
        return _Taken(unknown, usage)

    def _voice_hz(self, job: Job, settings: SessionSettings) -> int:
        """Sample rate of the voice with which the model speaks this reply; 0: the tts stage speaks it, or nobody does.

        A model cannot be made to say a given text word for word, so the tts stage speaks those.
        """
        omni = isinstance(job, TurnAudioReady) or settings.route == OMNI
        own = omni and has_audio_output(self._model) and job.options.say is None and is_spoken(job, settings)
        return int(self._model.rate_hz) if own else 0

    async def close(self) -> None:
        await self._model.close()
        if self._summaries is not None:
            await self._summaries.close(self._model)


class _Taken(NamedTuple):
    """What else is known of a model's reply, once it was taken."""

    unknown: Sequence[ToolCall]
    """The calls of tools that were not declared."""
    usage: Usage

    @property
    def cut(self) -> str:
        """See `ReplyDone`."""
        return why_cut(self.usage.finish_reason)

    @property
    def why_empty(self) -> str:
        """Why it had no words, one of `reasons.FAILURES`."""
        return UNKNOWN_TOOL if self.unknown else self.cut or EMPTY_REPLY


def _without_such_tools(turn: int, calls: Sequence[ToolCall]) -> list[Message]:
    """Tell the model, in the conversation, that the tools that it called do not exist."""
    if not calls:
        return []
    answers = [Message("tool", f"There is no tool named {call.name[:64]}.", turn, answers=call.id) for call in calls]
    return [Message("assistant", "", turn, calls=tuple(calls)), *answers]


async def _recite(text: str, prefix: str) -> Deltas:
    """Yield a given text instead of asking the model, without the prefix that an earlier attempt has published."""
    if text.startswith(prefix):
        yield text[len(prefix) :]
