"""Each turn is counted once, by what came of it, and each reply that was prepared once by what came of that."""

import asyncio

from prometheus_client import REGISTRY

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.gateway.lifetime import until_closed
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions
from tests.support.line import Line, on_a_line

OUTCOMES = ("completed", "interrupted", "cancelled", "failed", "empty")


def counts(name: str, outcomes: tuple[str, ...]) -> dict[str, float]:
    return {one: REGISTRY.get_sample_value(f"parley_{name}_total", {"outcome": one}) or 0.0 for one in outcomes}


class Counted:
    """What a counter of outcomes rose by since this began."""

    def __init__(self, name: str = "turns", outcomes: tuple[str, ...] = OUTCOMES) -> None:
        self._name, self._outcomes = name, outcomes
        self._before = counts(name, outcomes)

    def __call__(self) -> dict[str, float]:
        now = counts(self._name, self._outcomes)
        return {one: now[one] - before for one, before in self._before.items() if now[one] != before}


def waiting(line: Line, turn: int = 1, options: ReplyOptions | None = None) -> None:
    """A turn that was spoken, and of which nothing is known yet."""
    line.speech(turn)
    line.commit(turn, options=options)


@on_a_line
async def test_a_turn_that_was_interrupted_and_had_no_words_is_one_turn() -> None:
    counted, line = Counted(), Line()
    waiting(line)
    line.do(act.Say("never mind", ReplyOptions()))
    line.final(1, "")
    assert counted() == {"interrupted": 1}
    assert [event.status for event in line.of(ev.ReplyEnded)] == ["interrupted"]
    assert [(record.turn, record.outcome, record.reply_ms) for record in line.bus.turns] == [(1, "interrupted", 0)]


@on_a_line
async def test_a_turn_without_words_is_empty_whenever_that_is_known() -> None:
    counted, line = Counted(), Line()
    waiting(line)
    line.final(1, "")
    line.speech(2)
    line.pause(2, "")
    line.commit(2)
    assert counted() == {"empty": 2}


@on_a_line
async def test_a_turn_that_wants_no_reply_has_no_outcome() -> None:
    counted, line = Counted(), Line()
    waiting(line, options=ReplyOptions(wants_reply=False))
    line.final(1, "")
    line.session.end("left")
    assert counted() == {}


@on_a_line
async def test_a_turn_that_the_client_cancels_before_its_reply_is_cancelled() -> None:
    counted, line = Counted(), Line()
    waiting(line)
    line.do(act.CancelReply())
    assert counted() == {"cancelled": 1}
    assert [record.outcome for record in line.bus.turns] == ["cancelled"]


@on_a_line
async def test_a_turn_whose_reply_never_came_is_counted_when_the_client_leaves() -> None:
    counted, line = Counted(), Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning.", seconds=5)
    line.asked(2, "and", ReplyOptions(say="Goodbye."))  # waits behind it
    line.session.end("left")
    assert counted() == {"cancelled": 2}
    assert sorted(record.turn for record in line.bus.turns) == [1, 2]


@on_a_line
async def test_turns_that_a_fault_of_ours_ends_have_failed() -> None:
    counted, line = Counted(), Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning.", seconds=5)
    line.asked(2, "and", ReplyOptions(say="Goodbye."))
    line.session.end("failed")
    assert counted() == {"failed": 2}


@on_a_line
async def test_a_reply_that_was_played_before_the_end_is_completed() -> None:
    counted, line = Counted(), Line()
    line.turn(1, "hello", "Good morning.")
    await asyncio.sleep(1.29)
    line.session.end("failed")
    assert sum(counted().values()) == 1
    other, line = Counted(), Line()
    line.turn(1, "hello", "Good morning.")
    await asyncio.sleep(2)
    line.session.end("failed")
    assert other() == {"completed": 1}


@on_a_line
async def test_a_reply_that_failed_has_failed_also_where_someone_speaks_into_what_there_is_of_it() -> None:
    counted, line = Counted(), Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning to you.", seconds=3, done=False)
    await asyncio.sleep(0.5)
    line.log(fr.StageFailed("tts", 1, 0, "gone"))
    line.do(act.Say("what", ReplyOptions()))
    await asyncio.sleep(1)
    assert counted() == {"failed": 1}


@on_a_line
async def test_the_reason_of_a_failure_reaches_client_and_record() -> None:
    line = Line()
    line.asked(1, "hello")
    line.log(fr.StageFailed("llm", 1, 0, "not a word", "empty_reply"))
    line.asked(2, "hello")
    line.log(fr.StageFailed("llm", 2, 0, "of a later release", "unheard_of"))
    await asyncio.sleep(0.1)
    reasons = ["empty_reply", "stage_failed"]
    assert [event.code for event in line.of(ev.Failed)] == reasons
    assert [(event.status, event.reason) for event in line.of(ev.ReplyEnded)] == [("failed", one) for one in reasons]
    assert [(record.outcome, record.reason) for record in line.bus.turns] == [("failed", one) for one in reasons]


@on_a_line
async def test_the_reason_of_a_cut_reply_reaches_client_and_record() -> None:
    line = Line()
    line.asked(1, "hello")
    line.log(fr.ReplyStarted(1, 0, 0), fr.ReplyDelta(1, 0, 0, "Good"), fr.ReplyDone(1, 0, "Good", 0, "content_filter"))
    await asyncio.sleep(1)
    assert [(event.status, event.reason) for event in line.of(ev.ReplyEnded)] == [("completed", "content_filter")]
    assert [(record.outcome, record.reason) for record in line.bus.turns] == [("completed", "content_filter")]


@on_a_line
async def test_a_turn_that_nobody_understood_has_failed() -> None:
    for commits_first in (True, False):
        counted, line = Counted(), Line()
        line.speech(1)
        if commits_first:
            line.commit(1)
        else:
            line.pause(1, None, speculate=True)
        line.log(fr.StageFailed("asr", 1, 0, "gone"))
        if not commits_first:
            line.commit(1)
        await asyncio.sleep(0.1)
        assert counted() == {"failed": 1}, commits_first
        assert not line.session.conversation.state.has_open_turn
        line.session.end("left")
        assert counted() == {"failed": 1}, commits_first


@on_a_line
async def test_speech_into_a_reply_that_nobody_understood_has_failed() -> None:
    counted, line = Counted(), Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning.", seconds=2)
    line.speech(2)
    line.commit(2)
    line.log(fr.StageFailed("asr", 2, 0, "gone"))
    await asyncio.sleep(4)
    assert counted() == {"completed": 1, "failed": 1}


@on_a_line
async def test_a_cough_into_a_reply_is_no_turn() -> None:
    counted, line = Counted(), Line()
    line.asked(1, "hello")
    line.reply(1, "Good morning.", seconds=2)
    line.speech(2)
    line.pause(2, "")
    line.commit(2)
    await asyncio.sleep(4)
    assert counted() == {"completed": 1}


@on_a_line
async def test_a_reply_that_was_made_anew_is_not_wasted_too() -> None:
    counted, turns = Counted("speculations", ("reused", "redone", "wasted")), Counted()
    line = Line()
    line.turn(1, "hello", "Good morning.", prompt_hash=1)
    assert counted() == {"redone": 1}
    line.reply(1, "Good evening.", revision=1)
    await asyncio.sleep(3)
    assert counted() == {"redone": 1}
    assert turns() == {"completed": 1}


@on_a_line
async def test_speech_that_goes_on_after_a_pause_that_nobody_understood_is_answered() -> None:
    counted, line = Counted(), Line()
    line.speech(1)
    line.pause(1, None, speculate=True)
    line.resume(1, 1)
    line.log(fr.StageFailed("asr", 1, 0, "gone"))
    line.pause(1, "hello", 1)
    line.reply(1, "Good morning.", revision=1)
    line.commit(1, 1)
    await asyncio.sleep(3)
    assert counted() == {"completed": 1}


class Silent:
    """A client that says nothing and stays."""

    async def receive(self) -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self, code: int, reason: str) -> None:
        pass


@on_a_line
async def test_a_session_that_nobody_wished_to_end_has_failed() -> None:
    for code, outcome in ((1000, "closed"), (1008, "closed"), (1013, "closed"), (1011, "failed"), (1012, "failed")):
        loop, line = asyncio.get_running_loop(), Line()
        ending: asyncio.Future[tuple[int, str]] = loop.create_future()
        ending.set_result((code, "a test"))
        found = await until_closed(Silent(), line.session, ending, loop.create_future(), line.bus, 60)  # type: ignore[arg-type]
        assert found == outcome, code


@on_a_line
async def test_a_failure_after_all_was_there_takes_nothing_from_the_reply() -> None:
    counted, line = Counted(), Line()
    line.turn(1, "hello", "Good morning.", seconds=3)
    line.log(fr.StageFailed("tts", 1, 0, "gone"))
    await asyncio.sleep(5)
    assert counted() == {"completed": 1}
