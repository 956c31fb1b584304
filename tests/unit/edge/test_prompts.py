"""Greeting, asking who is there, goodbye: what the agent says without being asked."""

import asyncio

from services.edge.client import actions as act
from services.edge.client import events as ev
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions
from tests.support.line import Line, on_a_line


async def asked(line: Line) -> list[tuple[ReplyOptions, bool]]:
    """What the session asked its vad worker to have said."""
    found = await line.published(fr.ReplyRequested)
    return [(frame.options, frame.unless_spoken) for frame in found if isinstance(frame, fr.ReplyRequested)]


def says(line: Line, turn: int, text: str, **options: object) -> None:
    """The workers do so: one second of it."""
    chosen = ReplyOptions(say=text, **options)  # type: ignore[arg-type]
    line.asked(turn, options=chosen)
    line.reply(turn, text, options=chosen)


@on_a_line
async def test_the_agent_greets_first() -> None:
    line = Line(greeting="Welcome.")
    assert await asked(line) == [(ReplyOptions(say="Welcome."), True)]
    says(line, 1, "Welcome.")
    assert line.history() == [("assistant", "Welcome.", False)]
    line.turn(2, "hello", "Hi.")
    assert line.received()[-1] == "2 completed"


@on_a_line
async def test_it_says_nothing_of_its_own_by_default() -> None:
    line = Line()
    line.turn(1, "hello", "Hi.")
    await asyncio.sleep(3600)
    assert await asked(line) == []
    assert line.of(ev.IdlePassed) == []


@on_a_line
async def test_after_a_silence_it_asks_whether_anyone_is_there_and_at_last_hangs_up() -> None:
    line = Line(idle_ms=10_000, idle_limit=2, idle_prompt="Hello?", goodbye="Bye.")
    await asyncio.sleep(9)
    assert await asked(line) == []
    await asyncio.sleep(2)
    assert await asked(line) == [(ReplyOptions(say="Hello?"), True)]
    assert [(event.since_ms, event.until_ms) for event in line.of(ev.IdlePassed)] == [(0, 10_000)]
    says(line, 1, "Hello?")
    await asyncio.sleep(12)
    assert len(await asked(line)) == 2
    says(line, 2, "Hello?")
    await asyncio.sleep(12)
    assert (await asked(line))[-1] == (ReplyOptions(say="Bye.", interruptible=False), False)
    assert line.closed is None
    says(line, 3, "Bye.", interruptible=False)
    await asyncio.sleep(0.5)
    assert line.closed is None
    await asyncio.sleep(2)
    assert line.closed == (1000, "nobody is there")


@on_a_line
async def test_silence_counts_from_the_end_of_what_was_heard() -> None:
    line = Line(idle_ms=10_000)
    await asyncio.sleep(8)
    line.turn(1, "count", "one two three", seconds=8)
    await asyncio.sleep(15)  # 8 s of reply, then 7 s of silence
    assert await asked(line) == []
    await asyncio.sleep(4)
    assert len(await asked(line)) == 1


@on_a_line
async def test_nobody_is_asked_while_they_speak_and_who_speaks_is_there() -> None:
    line = Line(idle_ms=5_000, idle_limit=1)
    await asyncio.sleep(4)
    line.speech(1)
    await asyncio.sleep(10)
    assert await asked(line) == []
    line.pause(1, "hello")
    line.reply(1, "Hi.")
    line.commit(1)
    await asyncio.sleep(7)
    assert len(await asked(line)) == 1
    line.turn(2, "yes", "Good.")
    await asyncio.sleep(7)
    assert len(await asked(line)) == 2
    assert line.closed is None


@on_a_line
async def test_a_cough_is_no_sign_of_life_but_begins_the_wait_anew() -> None:
    line = Line(idle_ms=5_000)
    await asyncio.sleep(4)
    line.speech(1)
    line.log(fr.TurnDiscarded(1, 0, "noise"))
    await asyncio.sleep(4)
    assert await asked(line) == []
    await asyncio.sleep(2)
    assert len(await asked(line)) == 1


@on_a_line
async def test_who_hangs_up_is_told_goodbye() -> None:
    line = Line(goodbye="Bye.")
    line.do(act.HangUp(), act.HangUp())
    assert await asked(line) == [(ReplyOptions(say="Bye.", interruptible=False), False)]
    says(line, 1, "Bye.", interruptible=False)
    line.speech(2)  # it is heard to its end
    await asyncio.sleep(3)
    assert line.of(ev.Pause) == []
    line.final(2, "wait")
    assert line.closed == (1000, "goodbye") or line.closed is None


@on_a_line
async def test_without_a_goodbye_the_line_is_closed_at_once() -> None:
    line = Line()
    line.do(act.HangUp())
    assert line.closed == (1000, "goodbye")


@on_a_line
async def test_a_goodbye_that_never_comes_does_not_keep_the_line_open() -> None:
    line = Line(goodbye="Bye.")
    line.do(act.HangUp())
    await asyncio.sleep(25)
    assert line.closed == (1000, "goodbye")


@on_a_line
async def test_another_language_counts_from_the_next_turn_on() -> None:
    line = Line()
    line.do(act.Configure(line.session.settings.__class__(language="de")))
    (changed,) = await line.published(fr.SettingsChanged)
    assert isinstance(changed, fr.SettingsChanged)
    assert changed.settings.language == "de"
