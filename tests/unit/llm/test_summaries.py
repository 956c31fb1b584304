"""Summaries of long conversations: when they are due, what they replace, and the jobs that make them."""

import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.llm.context.summary import LONGEST, Due, due, make_summary, with_summary
from services.llm.context.window import fit, size, split
from services.llm.engine import Shortening, Usage
from services.llm.stage import LlmStage
from services.llm.summaries import Summaries
from shared.bus.leases import Lease
from shared.engines.registry import EngineLost
from shared.protocol.frames import Frame, ReplyDone, Summary, SummaryRequested, TranscriptFinal
from shared.protocol.session import Example, Message, ReplyOptions, SessionSettings, Tool, ToolCall
from shared.protocol.streams import StreamKind
from shared.worker.work import Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases

WINDOW = 500
NOTES = "They spoke about the garden."
AGENT = SessionSettings(instructions="Be brief.", examples=(Example("Hi.", "Hello."),))


def tokens(messages: Sequence[Message]) -> int:
    return size(messages) // 4


class Model:
    """Has a window of `WINDOW` tokens. Asked for a summary, it writes `notes`, or raises it."""

    slots = 1

    def __init__(self, notes: str | Exception = NOTES) -> None:
        self.notes = notes
        self.prompts: list[list[Message]] = []
        self.left_out: list[Shortening] = []
        self.questions: list[str] = []

    async def load(self) -> None: ...

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        if messages[0].text.startswith("You take notes"):
            self.questions.append(messages[-1].text)
            if isinstance(self.notes, Exception):
                raise self.notes
            yield self.notes
            return
        fitted = fit(messages, WINDOW, tokens)
        self.prompts.append(fitted.messages)
        self.left_out.append(fitted.left_out)
        yield f"Reply {messages[-1].turn}. " + "It grows well. " * 4
        yield Usage(fitted.tokens, 0, 20, window=WINDOW, left_out=fitted.left_out)

    async def close(self) -> None: ...


class Session:
    """A broker in memory with one conversation."""

    def __init__(self, model: Model) -> None:
        self.bus = SimulatedBus(random.Random(0), (0.0, 0.0))
        self.leases = SimulatedLeases(self.bus)
        self.bus.save_settings("s", AGENT)
        self.jobs: list[Frame] = []
        self.bus.on_job = lambda stage, stream, entry_id, frame: self.jobs.append(frame)
        self.history: list[Message] = []
        self.model, self.numbers = model, count(1)

    async def do(self, job: Frame, *, summaries: bool = True) -> None:
        """Run one job in a worker that has just started."""
        stage = LlmStage(self.model, "test", 0, 400, Summaries(self.model, "test") if summaries else None)
        lease = Lease(b"jobs", f"{next(self.numbers)}-0", 1, job)
        self.leases.fences[lease.id] = 1
        work = Work(self.bus, self.leases, "llm", lease)
        assert await work.finish(await stage.work(work))

    async def turn(self, number: int) -> None:
        said = f"Person {number}. " + "Tell me of the roses. " * 3
        await self.do(TranscriptFinal("s", number, 0, said, ReplyOptions()))
        (*_, done) = (
            f for _, frames in await self.bus.log(StreamKind.OUT, "s") for f in frames if isinstance(f, ReplyDone)
        )
        self.history += [Message("user", said, number), Message("assistant", done.text, number)]
        self.bus.save_history("s", self.history)

    async def wanted(self) -> list[SummaryRequested]:
        found = [job for job in self.jobs if isinstance(job, SummaryRequested)]
        self.jobs.clear()
        return found

    async def talk(self, turns: int) -> None:
        for number in range(len(self.history) // 2 + 1, len(self.history) // 2 + 1 + turns):
            await self.turn(number)
            for job in await self.wanted():
                await self.do(job)


async def test_a_long_conversation_is_never_left_out_without_a_summary() -> None:
    session = Session(Model())
    await session.talk(40)
    model = session.model
    assert len(model.prompts) == 40
    assert set(model.left_out) == {Shortening()}
    assert len(model.questions) >= 3
    for prompt_ in model.prompts:
        assert [one.text for one in prompt_[:3]] == ["Be brief.", "Hi.", "Hello."]
    last = model.prompts[-1]
    assert last[3].text == f"Summary of what was said before: {NOTES}"
    summary = session.bus.summaries["s"]
    assert [one.turn for one in last[4::2]] == list(range(summary.through + 1, 41))
    assert NOTES in model.questions[1]
    assert "Person: Person 1." in model.questions[0]
    read = [line for question in model.questions for line in question.splitlines() if line.startswith("Person: ")]
    assert len(read) == len(set(read)) == summary.through


async def test_nothing_is_summarised_by_default() -> None:
    session = Session(Model())
    for number in range(1, 30):
        await session.turn(number) if number < 0 else await session.do(
            TranscriptFinal("s", number, 0, "word " * 30, ReplyOptions()), summaries=False
        )
    assert await session.wanted() == []


@pytest.mark.parametrize("failure", [ValueError("too long"), RuntimeError("no answer"), "", "<think>Well"])
async def test_a_summary_that_fails_fails_no_job(failure: str | Exception) -> None:
    session = Session(Model(failure))
    labels = {"engine": "test", "outcome": "failed"}
    before = REGISTRY.get_sample_value("parley_llm_summaries_total", labels) or 0.0
    await session.talk(15)
    assert session.bus.summaries == {}
    assert (REGISTRY.get_sample_value("parley_llm_summaries_total", labels) or 0.0) > before
    assert session.model.left_out[-1].turns > 0
    session.model.notes = NOTES
    await session.talk(1)
    assert session.bus.summaries["s"].text == NOTES


async def test_a_lost_engine_is_the_workers_business() -> None:
    session = Session(Model(EngineLost("no memory")))
    with pytest.raises(EngineLost):
        await session.talk(15)


async def test_a_second_attempt_does_not_summarise_again() -> None:
    session = Session(Model())
    while not (wanted := await session.wanted()):
        await session.turn(len(session.history) // 2 + 1)
    await session.do(wanted[0])
    await session.do(wanted[0])
    assert len(session.model.questions) == 1


async def test_a_worker_without_summaries_drops_the_job() -> None:
    session = Session(Model())
    await session.do(SummaryRequested("s", 1, 3), summaries=False)
    assert session.bus.summaries == {}


async def test_a_summary_is_limited_and_its_thoughts_are_hidden() -> None:
    session = Session(Model("<think>Hm.</think>" + "word " * 1000))
    await session.talk(15)
    text = session.bus.summaries["s"].text
    assert text.startswith("word word")
    assert len(text) <= LONGEST


def talk(turns: int) -> list[Message]:
    said = (Message(role, f"{role} {turn}", turn) for turn in range(1, turns + 1) for role in ("user", "assistant"))
    return [Message("system", "Be brief.", 0), *said, Message("user", "And now?", turns + 1)]


@given(st.integers(2, 30), st.data())
def test_a_summary_stands_for_what_it_covers(turns: int, data: st.DataObject) -> None:
    whole, through = talk(turns), data.draw(st.integers(1, turns))
    summary = make_summary(NOTES, whole, Due(1, through))
    kept = with_summary(whole, summary)
    assert kept[0] == whole[0]
    assert kept[1].text.endswith(NOTES)
    assert kept[2:] == [one for one in whole if one.turn > through]
    assert split(kept)[0] == kept[:2]
    forgotten = data.draw(st.integers(0, 2 * through - 1))  # the edge forgets messages, not whole turns
    assert with_summary([whole[0], *whole[1 + forgotten :]], summary)[1:] == kept[1:]


@given(st.integers(3, 30), st.data())
def test_a_summary_of_something_else_is_not_used(turns: int, data: st.DataObject) -> None:
    whole, through = talk(turns), data.draw(st.integers(3, turns))
    summary = make_summary(NOTES, whole, Due(1, through))
    place = data.draw(st.integers(3, 2 * through))
    changed = [*whole[:place], replace(whole[place], text="Something else."), *whole[place + 1 :]]
    assert with_summary(changed, summary) == changed
    at = whole[place].turn
    deleted = [one for one in whole if one.turn != at]
    assert with_summary(deleted, summary) == deleted
    assert with_summary(whole[:1], summary) == whole[:1]
    assert with_summary(whole, None) == whole


def test_what_is_due() -> None:
    whole: list[Message] = talk(40)

    def of(used: float, **left_out: Any) -> Due | None:
        return due(whole, Usage(round(used * 1000), window=1000, left_out=Shortening(**left_out)))

    assert of(0.7) is None
    assert due(whole, Usage(5000)) is None
    some = of(0.8)
    assert some is not None
    assert some.first == 1
    assert 15 < some.through < 30
    long = of(0.9, turns=30)
    assert long is not None
    assert long.first > 1  # more than the model can read at once
    assert due(whole[:1], Usage(900, window=1000)) is None
    one_number = [replace(one, turn=7) if one.turn else one for one in whole]
    assert due(one_number, Usage(900, window=1000)) is None


def test_summaries_travel_as_frames() -> None:
    from shared.protocol.frames import codec

    frame = Summary(NOTES, 7, (6, 7), (1, 2**32 - 1))
    assert codec.decode_entry(codec.entry([codec.encode(frame)])) == [frame]
