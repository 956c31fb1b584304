"""Tools in the llm stage: the model gets them, and each call is published once, with the end of the reply."""

import random
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

import pytest

from services.llm.engine import EmptyReply
from services.llm.stage import LlmStage
from shared.bus.leases import Lease
from shared.protocol.frames import Frame, ReplyDelta, ReplyDone, ReplySentence, ToolCalled, TranscriptFinal
from shared.protocol.prompt import UNANSWERED, prompt, prompt_hash
from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool, ToolCall
from shared.protocol.streams import StreamKind
from shared.worker.work import JobFailed, Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases

WEATHER = Tool("weather", "Tells the weather.", '{"type":"object"}')
CLOCK = Tool("clock", "", "{}")
BOTH = SessionSettings(tools=(WEATHER, CLOCK))
CALL = ToolCall("call_1", "weather", '{"city":"Bonn"}')


class Model:
    """Yields the given items, and records its arguments."""

    slots = 1

    def __init__(self, *deltas: str | ToolCall | Exception) -> None:
        self.deltas = deltas
        self.tools: Sequence[Tool] | None = None
        self.messages: Sequence[Message] = ()

    async def load(self) -> None: ...

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall, None]:
        self.messages, self.tools = messages, tools
        for delta in self.deltas:
            if isinstance(delta, Exception):
                raise delta
            if isinstance(delta, str) and prefix.startswith(delta):
                prefix = prefix[len(delta) :]
            else:
                yield delta

    async def close(self) -> None: ...


class Session:
    """A broker in memory with one session."""

    def __init__(self, settings: SessionSettings = BOTH) -> None:
        self.bus = SimulatedBus(random.Random(0), (0.0, 0.0))
        self.leases = SimulatedLeases(self.bus)
        self.bus.save_settings("s", settings)
        self.numbers = count(1)

    async def reply(self, model: Model, options: ReplyOptions | None = None, *, attempt: int = 1) -> list[Frame]:
        """Run the stage once, and return the session's log."""
        job = TranscriptFinal("s", 1, 0, "What is the weather?", options or ReplyOptions())
        lease = Lease(b"jobs", f"{next(self.numbers)}-0", attempt, job)
        self.leases.fences[lease.id] = attempt
        work = Work(self.bus, self.leases, "llm", lease)
        assert await work.finish(await LlmStage(model, "test", 0, 400).work(work))
        return await self.log()

    async def log(self) -> list[Frame]:
        return [frame for _, frames in await self.bus.log(StreamKind.OUT, "s") for frame in frames]


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        (SessionSettings(), ReplyOptions(), ()),
        (BOTH, ReplyOptions(), (WEATHER, CLOCK)),
        (SessionSettings(tools=(CLOCK,), tool_choice="required"), ReplyOptions(), (CLOCK,)),
        (SessionSettings(tools=(WEATHER, CLOCK), tool_choice="clock"), ReplyOptions(), (WEATHER, CLOCK)),
        (SessionSettings(tools=(CLOCK,), tool_choice="none"), ReplyOptions(), ()),
        (SessionSettings(tools=(CLOCK,), tool_choice="none"), ReplyOptions(tool_choice="auto"), (CLOCK,)),
        (BOTH, ReplyOptions(tool_choice="none"), ()),
        (BOTH, ReplyOptions(tools=(CLOCK,)), (CLOCK,)),
    ],
)
async def test_the_model_gets_the_current_tools(
    settings: SessionSettings, options: ReplyOptions, expected: tuple[Tool, ...]
) -> None:
    model = Model("Hello.")
    await Session(settings).reply(model, options)
    assert model.tools == expected


async def test_calls_come_after_the_text_and_before_the_end() -> None:
    second = ToolCall("call_2", "clock", "{}")
    log = await Session().reply(Model("Let me ", CALL, "see.", second))
    assert log[-3:] == [
        ToolCalled(1, 0, CALL),
        ToolCalled(1, 0, second),
        ReplyDone(1, 0, "Let me see.", 1),
    ]
    assert [type(frame) for frame in log[1:-3]] == [ReplyDelta, ReplyDelta, ReplySentence]


async def test_a_reply_may_consist_of_a_call_only() -> None:
    log = await Session().reply(Model(CALL))
    assert log[1:] == [ToolCalled(1, 0, CALL), ReplyDone(1, 0, "", 0)]


async def test_a_call_is_published_once_after_a_failed_attempt() -> None:
    place = Session()
    with pytest.raises(ConnectionError):
        await place.reply(Model("Let me see.", CALL, ConnectionError()))
    assert not [frame for frame in await place.log() if isinstance(frame, ToolCalled)]
    log = await place.reply(Model("Let me see.", CALL), attempt=2)
    assert [frame for frame in log if isinstance(frame, ToolCalled | ReplyDone)] == [
        ToolCalled(1, 0, CALL),
        ReplyDone(1, 0, "Let me see.", 1),
    ]


async def test_a_worker_that_lost_its_lease_publishes_no_call() -> None:
    place = Session()
    job = TranscriptFinal("s", 1, 0, "Hi", ReplyOptions())
    work = Work(place.bus, place.leases, "llm", Lease(b"jobs", "9-0", 1, job))
    place.leases.fences["9-0"] = 2  # another worker has the lease
    assert not await work.finish(await LlmStage(Model(CALL), "test", 0, 400).work(work))
    assert not [frame for frame in await place.log() if isinstance(frame, ToolCalled | ReplyDone)]


@pytest.mark.parametrize("options", [ReplyOptions(), ReplyOptions(tool_choice="none")])
async def test_unknown_tools_are_not_called(options: ReplyOptions) -> None:
    settings = SessionSettings(tools=(CLOCK,)) if options.tool_choice is None else BOTH
    log = await Session(settings).reply(Model("Well.", CALL), options)
    assert not [frame for frame in log if isinstance(frame, ToolCalled)]
    assert log[-1] == ReplyDone(1, 0, "Well.", 1)


async def test_a_model_that_only_calls_an_unknown_tool_is_told_and_asked_again() -> None:
    class Learner(Model):
        async def reply(self, messages: Sequence[Message], **given: Any) -> AsyncGenerator[str | ToolCall, None]:
            self.messages = messages
            yield "I cannot do that." if messages[-1].role == "tool" else ToolCall("c", "reserve", "{}")

    model = Learner()
    log = await Session().reply(model)
    assert log[-1] == ReplyDone(1, 0, "I cannot do that.", 1)
    called, answered = model.messages[-2:]
    assert called.calls == (ToolCall("c", "reserve", "{}"),)
    assert (answered.text, answered.answers) == ("There is no tool named reserve.", "c")


@pytest.mark.parametrize("deltas", [(), ("", " "), ("<think>Hm.</think>",), (ToolCall("c", "reserve", "{}"),)])
async def test_a_reply_without_words_fails_after_a_second_attempt(deltas: tuple[str | ToolCall, ...]) -> None:
    class Silent(Model):
        asked = 0

        async def reply(self, messages: Sequence[Message], **given: Any) -> AsyncGenerator[str | ToolCall, None]:
            self.asked += 1
            for delta in deltas:
                yield delta

    model = Silent()
    with pytest.raises(JobFailed, match="2 times without a word"):
        await Session().reply(model)
    assert model.asked == 2


async def test_an_engine_that_has_asked_again_itself_is_not_asked_again() -> None:
    with pytest.raises(JobFailed, match="nothing came"):
        await Session().reply(Model(EmptyReply("nothing came")))


async def test_a_given_text_does_not_use_the_model() -> None:
    model = Model(CALL)
    log = await Session().reply(model, ReplyOptions(say="Welcome."))
    assert model.tools is None
    assert log[-1] == ReplyDone(1, 0, "Welcome.", 1)


def call(call_id: str, turn: int = 1) -> Message:
    return Message("assistant", "", turn, calls=(ToolCall(call_id, "weather", "{}"),))


def answer(call_id: str, text: str = "rain", turn: int = 1) -> Message:
    return Message("tool", text, turn, answers=call_id)


USER = Message("user", "What is the weather?", 1)


def prompted(*history: Message, turn: int = 9, text: str = "") -> list[Message]:
    return prompt(SessionSettings(), ReplyOptions(), history, turn, text)


def test_a_prompt_after_a_tool_result_ends_with_it() -> None:
    assert prompted(USER, call("a"), answer("a")) == [USER, call("a"), answer("a")]


def test_the_text_of_a_reply_and_its_calls_are_one_message() -> None:
    said = Message("assistant", "Let me see.", 1)
    both = (*call("a").calls, *call("b").calls)
    assert prompted(USER, said, call("a"), call("b"), answer("b"), answer("a", "")) == [
        USER,
        Message("assistant", "Let me see.", 1, calls=both),
        answer("a", ""),
        answer("b"),
    ]


def test_consecutive_calls_stay_separate() -> None:
    history = (USER, call("a"), answer("a"), call("b"), answer("b"))
    assert prompted(*history) == list(history)


def test_a_late_result_stands_with_its_call() -> None:
    later = (Message("user", "Hello?", 2), Message("assistant", "Yes.", 2))
    assert prompted(USER, call("a"), *later, answer("a", turn=2)) == [USER, call("a"), answer("a", turn=2), *later]
    asked = prompted(USER, call("a"), *later, answer("a", turn=2), turn=2, text="Hello?")
    assert asked == [USER, call("a"), Message("tool", UNANSWERED, 1, answers="a"), Message("user", "Hello?", 2)]


def test_the_later_of_two_results_counts_and_orphans_do_not() -> None:
    assert prompted(answer("x"), USER, call("a"), answer("a", "sun"), answer("a")) == [USER, call("a"), answer("a")]


def test_an_interrupted_reply_keeps_its_calls() -> None:
    said = Message("assistant", "Let me", 1, interrupted=True)
    assert prompted(USER, said, call("a"), answer("a")) == [
        USER,
        Message("assistant", "Let me", 1, interrupted=True, calls=call("a").calls),
        answer("a"),
    ]


def test_the_prompt_hash_depends_on_the_tools() -> None:
    sums = {
        prompt_hash(settings, options, [USER])
        for settings, options in [
            (SessionSettings(), ReplyOptions()),
            (BOTH, ReplyOptions()),
            (BOTH, ReplyOptions(tool_choice="none")),
            (BOTH, ReplyOptions(tools=(CLOCK,))),
            (BOTH, ReplyOptions(tool_choice="required")),
            (SessionSettings(tools=(WEATHER, Tool("clock", "", '{"a":1}'))), ReplyOptions()),
        ]
    }
    assert len(sums) == 6
