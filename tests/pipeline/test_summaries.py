"""Summaries of a long conversation with workers on a real broker: stored with the session, for every worker and edge."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from services.llm.context.window import fit, size
from services.llm.engine import Usage
from services.llm.stage import LlmStage
from services.llm.summaries import Summaries
from shared.bus.bus import Bus
from shared.bus.forget import delete_session, find_session
from shared.bus.leases import Leases
from shared.protocol.frames import Frame, ReplyDone, TranscriptFinal
from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.worker import Worker
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S, until

WINDOW = 400


class Model:
    """Has a window of `WINDOW` tokens. Its summaries wait for `may_write`."""

    slots = 4

    def __init__(self) -> None:
        self.prompts: list[list[Message]] = []
        self.summaries = 0
        self.asked, self.may_write = asyncio.Event(), asyncio.Event()

    async def load(self) -> None: ...

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | Usage, None]:
        if messages[0].text.startswith("You take notes"):
            self.summaries += 1
            self.asked.set()
            await self.may_write.wait()
            yield "They spoke about roses."
            return
        fitted = fit(messages, WINDOW, lambda part: size(part) // 4)
        self.prompts.append(fitted.messages)
        yield f"Reply {messages[-1].turn}: they like the sun, and some water in the evening."
        yield Usage(fitted.tokens, window=WINDOW, left_out=fitted.left_out)

    async def close(self) -> None: ...


class Talk:
    """What the edge does of a conversation."""

    def __init__(self, edge: Bus) -> None:
        self.edge, self.history, self.done = edge, list[Message](), list[ReplyDone]()
        edge.save_settings("s", SessionSettings(instructions="Be brief."))
        edge.follow(StreamKind.OUT, "s", "0-0", self._take)

    def _take(self, at: str, fence: int, frames: Sequence[Frame]) -> None:
        self.done += [frame for frame in frames if isinstance(frame, ReplyDone)]

    async def turn(self) -> None:
        turn = len(self.done) + 1
        said = f"Question {turn} about roses and what they like."
        self.edge.channel("edge", "s").publish(TranscriptFinal("s", turn, 0, said, ReplyOptions()))
        await until(lambda: len(self.done) == turn)
        self.history += [Message("user", said, turn), Message("assistant", self.done[-1].text, turn)]
        self.edge.save_history("s", self.history)
        self.edge.stop("s", turn + 1, 0)  # the person speaks again: older jobs are stale


async def with_worker(where: Settings, model: Model, talk: Talk, turns: int) -> None:
    """Run a worker for this many turns, and until there is a summary."""
    shutdown = Shutdown(5)
    stage = LlmStage(model, "test", 0, 400, Summaries(model, "test"))
    async with Bus.connect(where, "llm") as bus, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Worker(stage, where, shutdown, bus, Leases(bus, "llm", where.lease_ms)).run())
        for _ in range(turns):
            await talk.turn()
        async with asyncio.timeout(HANG_S):
            if await bus.summary("s") is None:
                await model.asked.wait()  # the turns did not wait for it, and did not stop it
            model.may_write.set()
            while await bus.summary("s") is None:
                await asyncio.sleep(0.01)
        shutdown.request()
        await asyncio.wait([running], timeout=HANG_S)


async def test_another_worker_sees_the_summary_and_forgetting_a_session_deletes_it(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path) as where, Bus.connect(where, "edge") as edge:
        await edge.call(b"XADD", edge.keys.stream(StreamKind.OUT, "s"), b"*", b"x", b"")
        talk, first, second = Talk(edge), Model(), Model()
        await with_worker(where, first, talk, 12)
        summary = await edge.summary("s")
        assert summary is not None
        assert first.summaries == 1  # one at a time
        assert summary.text == "They spoke about roses."
        assert await edge.call(b"TTL", edge.keys.session("s")) > 0
        await with_worker(where, second, talk, 1)
        (prompt,) = second.prompts
        assert [one.text for one in prompt[:2]] == [
            "Be brief.", "Summary of what was said before: They spoke about roses.",
        ]  # fmt: skip
        assert prompt[2].turn == summary.through + 1
        assert prompt[-1].turn == 13
        assert not any("roses" in frame.text and "spoke" in frame.text for frame in talk.done)
        await delete_session(edge, "s")
        assert (await find_session(edge, "s")).keys == 0
