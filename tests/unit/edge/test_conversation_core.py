"""The conversation core: its tables, what it refuses, what it asks for first, and how far it is to the socket."""

import sys
from pathlib import Path

import pytest

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation import reply, turn_machine
from services.edge.conversation.core import HANDLERS, Core
from services.edge.conversation.inputs import Begin, Stamp, TimerFired
from services.edge.conversation.playout import Playout
from services.edge.conversation.reply import Reply, ReplySignal, ReplyState
from services.edge.conversation.state import State
from services.edge.conversation.state_table import as_markdown
from services.edge.conversation.turn_machine import TurnSignal, TurnState, UserTurn
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.session import Session
from services.edge.protocols.stream import StreamCodec
from shared.protocol import frames as fr
from shared.protocol.session import RATE_HZ, ReplyOptions, SessionSettings
from shared.protocol.streams import ROUTES, StreamKind
from shared.settings import Settings
from tests.support.line import Line, on_a_line

LONGEST_CHAIN = 6
"""Function calls, both ends included, from the session, to which the bus delivers a fact, to the socket, when the client is
silenced."""
AT = Stamp(1.0, 1_000_000, 1_000_000)
DESIGN = Path(__file__).parents[3] / "DESIGN.md"


@pytest.mark.parametrize("table", [as_markdown(turn_machine.TABLE), as_markdown(reply.TABLE)])
def test_the_documentation_shows_the_tables(table: str) -> None:
    assert f"\n\n{table}\n\n" in DESIGN.read_text()


@pytest.mark.parametrize("state", TurnState)
@pytest.mark.parametrize("signal", TurnSignal)
def test_a_turn_refuses_what_is_not_in_its_table(state: TurnState, signal: TurnSignal) -> None:
    turn, following = UserTurn(1, state), turn_machine.TABLE.get((state, signal))
    assert turn.change(signal) == (following is not None)
    assert turn.state is (following or state)


@pytest.mark.parametrize("state", ReplyState)
@pytest.mark.parametrize("signal", ReplySignal)
def test_a_reply_refuses_what_is_not_in_its_table(state: ReplyState, signal: ReplySignal) -> None:
    one, following = Reply(1, 0, Playout(RATE_HZ, 30), state), reply.TABLE.get((state, signal))
    assert one.change(signal) == (following is not None)
    assert one.state is (following or state)


def test_every_state_is_reached_and_ends() -> None:
    for table, first, last in (
        (turn_machine.TABLE, TurnState.SPEAKING, {TurnState.DISCARDED, TurnState.ANSWERED}),
        (reply.TABLE, ReplyState.PREPARING, {ReplyState.FINISHED, ReplyState.INTERRUPTED}),
    ):
        assert {state for state, _ in table} | last == set(type(first))
        assert {*table.values(), first} == set(type(first))
        assert not last & {state for state, _ in table}


def test_every_frame_of_a_log_and_every_action_has_a_handler() -> None:
    logged = {kind for routes in ROUTES.values() for kind, places in routes.items() if StreamKind.OUT in places}
    assert logged <= HANDLERS.keys()
    beside = {act.Start, act.Resume, act.Audio, act.GetStats, act.HangUp, act.Send, act.Close}  # the session's
    assert set(act.Action.__args__) - beside <= HANDLERS.keys()
    assert new_core().on(fr.AudioChunk(0, b""), AT) == []  # a later release may write a frame that is not of a log
    with pytest.raises(TypeError, match="GetStats"):
        new_core().on(act.GetStats(), AT)  # type: ignore[arg-type]


def new_core() -> Core:
    core = Core(State("session", lambda: Playout(RATE_HZ, 30), 0.0, deadline_s=20.0, shows_failures=True))
    core.on(Begin(SessionSettings()), AT)
    return core


def playing() -> Core:
    """A reply of ten seconds plays."""
    core = new_core()
    for frame in (
        fr.TurnCommitted(1, 0, 0, 0, 0, 1_000_000, ReplyOptions()),
        fr.TranscriptFinal("session", 1, 0, "count", ReplyOptions()),
        fr.ReplyStarted(1, 0, 0),
        fr.ReplyDelta(1, 0, 0, "one two"),
        fr.ReplySentence("session", 1, 0, 0, "one two", "", 1.0, "en"),
        fr.VoiceChunk(1, 0, 0, 0, RATE_HZ, bytes(20 * RATE_HZ), ()),
    ):
        core.on(frame, AT)
    return core


def kinds(effects: list[fx.Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def test_silence_comes_before_everything_else() -> None:
    """Realtime clients fall silent on `SpeechBegan`, the others on `Pause`: one after the other, and nothing before them."""
    started = fr.SpeechStarted("session", 2, 0, 32_000, 32_000, "0-0", "en", True)
    assert kinds(playing().on(started, AT._replace(now_s=2.0)))[:2] == [ev.SpeechBegan, ev.Pause]
    for action in (act.Say("stop"), act.CancelReply(), act.Reset()):
        assert kinds(playing().on(action, AT._replace(now_s=2.0)))[0] is ev.Interrupt
    words, core = fr.TurnCommitted(2, 0, 0, 0, 0, 1_000_000, ReplyOptions()), playing()
    assert kinds(core.on(words, AT._replace(now_s=2.0)))[0] is ev.Interrupt


def test_a_fact_that_arrives_twice_changes_nothing() -> None:
    for fact in (
        fr.SpeechStarted("session", 2, 0, 32_000, 32_000, "0-0", "en", True),
        fr.SpeechPaused(2, 0, 40_000, True),
        fr.TranscriptFinal("session", 2, 0, "what about Rome", ReplyOptions()),
        fr.TurnCommitted(2, 0, 32_000, 40_000, 48_000, 1_000_000, ReplyOptions()),
    ):
        core = playing()
        core.on(fr.SpeechStarted("session", 2, 0, 32_000, 32_000, "0-0", "en", True), AT)
        if not isinstance(fact, fr.SpeechStarted):
            core.on(fr.SpeechPaused(2, 0, 40_000, True), AT)
            core.on(fact, AT)
        assert core.on(fact, AT) == []


def test_a_timer_whose_turn_is_gone_does_nothing() -> None:
    for timer in fx.Timer:
        if timer is not fx.Timer.IDLE:
            assert playing().on(TimerFired(timer, 7), AT) == []


@on_a_line
async def test_it_is_a_few_calls_from_the_reader_to_the_socket() -> None:
    line, chains = Line(), []

    def send(message: str | bytes) -> bool:
        if isinstance(message, str) and '"pause"' in message:
            frame, chain = sys._getframe(), ["send"]
            while frame.f_code.co_name != "deliver_here" and frame.f_back is not None:
                frame = frame.f_back
                chain.append(frame.f_code.co_name)
            chains.append(chain[:-1])
        return True

    session = Session(line.bus, StreamCodec(RATE_HZ, SessionSettings()), Settings(), Abilities(), send, line._close)  # type: ignore[arg-type]
    session.start(SessionSettings())

    def deliver_here(*frames: fr.Frame) -> None:
        session.deliver("1000000-1", 1, list(frames))

    deliver_here(
        fr.TurnCommitted(1, 0, 0, 0, 0, 1_000_000, ReplyOptions()),
        fr.TranscriptFinal(session.id, 1, 0, "count", ReplyOptions()),
        fr.ReplyStarted(1, 0, 0),
        fr.VoiceChunk(1, 0, 0, 0, RATE_HZ, bytes(20 * RATE_HZ), ()),
    )
    deliver_here(fr.SpeechStarted(session.id, 2, 0, 32_000, 32_000, "0-0", "en", True))
    (chain,) = chains
    assert len(chain) <= LONGEST_CHAIN, chain
    session.end("left")
