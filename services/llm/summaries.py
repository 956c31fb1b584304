"""Summaries of long conversations: a job of its own after a reply, so that no reply waits for one.

The summary is stored with the session: after a takeover, a resume or at another edge the prompt is the same.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from services.llm.context.summary import LONGEST, Due, ask_for_summary, due, make_summary, with_summary
from services.llm.engine import ChatModel, OmniModel, Usage
from services.llm.hidden_text import HiddenText, without_hidden_text
from services.llm.observation import count_tokens
from shared.engines.registry import EngineLost
from shared.observability import metrics
from shared.protocol.frames import SummaryRequested
from shared.protocol.prompt import prompt
from shared.protocol.session import Message, ReplyOptions
from shared.worker.work import Work

log = structlog.get_logger()

NEXT_TURN = 2**31
"""A turn after all others: the whole history stands before it."""


class Summaries:
    """Asks for summaries, makes them, and puts them into prompts."""

    def __init__(self, model: ChatModel | OmniModel, engine: str) -> None:
        """`model`: that of the replies, or a smaller one."""
        self._model, self._engine = model, engine
        self._making: set[str] = set()  # sessions: the next replies of a fast conversation do not ask again meanwhile

    async def load(self, of_replies: Any) -> None:
        """Load the model, if it is not that of the replies. Raises as `ChatModel.load` does."""
        if self._model is not of_replies:
            await self._model.load()

    async def close(self, of_replies: Any) -> None:
        if self._model is not of_replies:
            await self._model.close()

    async def put_into(self, messages: Sequence[Message], work: Work) -> list[Message]:
        """Return the prompt with the summary of the session, if it has one, in place of what that covers."""
        return with_summary(messages, await work.summary())

    def request(self, work: Work, messages: Sequence[Message], usage: Usage) -> Sequence[SummaryRequested]:
        """Return the job for a summary if one is due after this reply."""
        what = None if work.session in self._making else due(messages, usage)
        return () if what is None else [SummaryRequested(work.session, what.first, what.through, work.trace)]

    async def make(self, work: Work, job: SummaryRequested) -> None:
        """Make a summary and store it. Without it, turns are left out of later prompts; a later reply asks again.

        Raises:
            EngineLost: the model does not work any more.
        """
        if work.session in self._making:
            return
        self._making.add(work.session)
        try:
            await self._make(work, job)
        finally:
            self._making.discard(work.session)

    async def _make(self, work: Work, job: SummaryRequested) -> None:
        settings, history = await work.conversation()
        before = await work.summary()
        if before is not None and before.through >= job.through:
            return  # made by another attempt
        whole = prompt(settings, ReplyOptions(), history, NEXT_TURN, "")
        question = ask_for_summary(with_summary(whole, before), Due(job.first, job.through))
        work.span.set_attribute("parley.summary.through_turn", job.through)
        try:
            text = await self._write(question, settings.language)
        except EngineLost:
            raise
        except (ValueError, RuntimeError) as error:
            self._failed(str(error))
            return
        if not text:
            self._failed("the model has written nothing")
            return
        work.save_summary(make_summary(text, whole, Due(job.first, job.through)))
        metrics.llm_summaries.labels(self._engine, "done").inc()
        work.span.set_attribute("parley.summary.characters", len(text))
        log.info("conversation summarised", through_turn=job.through, characters=len(text))

    async def _write(self, question: Sequence[Message], language: str) -> str:
        text, usage = "", Usage()
        model: Any = self._model
        deltas: AsyncGenerator[Any, None] = without_hidden_text(model.reply(question, language=language), HiddenText())
        try:
            async with aclosing(deltas):
                async for delta in deltas:
                    if isinstance(delta, Usage):
                        usage = delta
                    elif isinstance(delta, str):
                        text += delta
                    if len(text) > LONGEST:
                        break
        finally:
            count_tokens(self._engine, usage)
        return " ".join(text[:LONGEST].split())

    def _failed(self, reason: str) -> None:
        metrics.llm_summaries.labels(self._engine, "failed").inc()
        log.warning("summary failed: the oldest turns are left out of prompts instead", reason=reason)
